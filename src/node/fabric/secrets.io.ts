/** Reads the token and certificate files for the fabric, and makes its random source. */
import { randomBytes, X509Certificate } from "node:crypto";
import type { Settings } from "../../config/settings.ts";
import { type ClusterTokens, nodeOfCertificate } from "../../fabric/links/peer-auth.ts";
import type { FabricTls } from "../../fabric/transport/peer-identity.io.ts";
import { MAX_PEM_BYTES, MAX_TOKEN_FILE_BYTES, readCertificates, readNamedFile, readRevocationLists } from "../../lib/named-file.io.ts";
import { Rng } from "../../lib/rng.ts";

/** Returns a random source for machines, seeded from the system's secure source. */
export function secretRng(): Rng {
  return new Rng(randomBytes(16).toString("hex"));
}

/** Maximum number of lines in the token file: the token and, during a rotation, the old or the new one. */
const MAX_TOKENS = 2;

/** Reads the tokens of the fabric. */
export function readClusterTokens({ fabric }: Settings): ClusterTokens {
  const path = fabric.clusterTokenFile;
  return path === undefined ? { clusterToken: "" } : tokensOf(readTokens("fabric.cluster_token_file", path));
}

function tokensOf([clusterToken, otherToken]: readonly [string, string | undefined]): ClusterTokens {
  return { clusterToken, otherToken };
}

/** Reads the tokens on the first and the optional second line of a file. Error messages name the file but never contain its content. */
export function readTokens(setting: string, path: string): readonly [token: string, otherToken: string | undefined] {
  const lines = readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES })
    .toString("utf8")
    .split(/\r?\n/, MAX_TOKENS + 2);
  if (lines.at(-1) === "") lines.pop();
  const [token, otherToken] = lines;
  const areTokens = lines.every((line) => /^[\x21-\x7e]{16,1024}$/.test(line));
  if (token !== undefined && lines.length <= MAX_TOKENS && areTokens) return [token, otherToken];
  throw new Error(
    `${setting}: invalid token file ${path}: expected one or two lines of 16 to 1024 printable ASCII characters without spaces`,
  );
}

export interface NamedNode {
  /** Undefined while the id is unknown. A certificate for any node of the cluster is then accepted. */
  readonly nodeId: string | undefined;
  readonly clusterId: string;
}

/** Reads the certificates for the fabric. Undefined for plaintext connections. Throws if the certificate belongs to another node. */
export function readFabricTls({ fabric }: Settings, self: NamedNode): FabricTls | undefined {
  const { certFile, keyFile, caFile, crlFile } = fabric;
  if (certFile === undefined || keyFile === undefined || caFile === undefined) return undefined;
  const cert = readPem("fabric.cert_file", certFile);
  const named = nodeOfCertificate(new X509Certificate(cert).subjectAltName ?? "");
  const { nodeId = named?.nodeId ?? "with a generated id", clusterId } = self;
  if (named?.nodeId !== nodeId || named.clusterId !== clusterId) {
    const has = named === undefined ? "does not name a node" : `belongs to node ${named.nodeId} of cluster ${named.clusterId}`;
    throw new Error(
      `fabric.cert_file: ${certFile} ${has}, but this is node ${nodeId} of cluster ${clusterId}: ` +
        "the certificate must have exactly one URI, spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>",
    );
  }
  const crls = crlFile === undefined ? undefined : readRevocationLists("fabric.crl_file", crlFile);
  return { cert, key: readPem("fabric.key_file", keyFile), clientCa: readCertificates("fabric.ca_file", caFile), crls };
}

function readPem(setting: string, path: string): Buffer {
  return readNamedFile({ setting, path, maxBytes: MAX_PEM_BYTES });
}
