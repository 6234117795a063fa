/** The acts of `ca`, `cert issue` and `mesh join` on this machine, on behalf of the command line, which cannot import the node. */
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ClientKey, IssuerRequest, Joined, MeshJoin, NewAuthority } from "../cli/environment.ts";
import type { EffectiveSettings } from "../config/load.ts";
import { TrustCopy } from "../control/identity/trust.ts";
import { P256PrivateKey } from "../lib/crypto.ts";
import { MAX_TOKEN_FILE_BYTES, readNamedFile } from "../lib/named-file.io.ts";
import { makePrivateDirectory, writePrivateFile } from "../lib/private-directory.io.ts";
import { makeIntermediate, makeRoot } from "../node/identity/ca.io.ts";
import { IdentityDirectory, keyPem, newKey } from "../node/identity/directory.io.ts";
import { joinCluster, joinedCluster } from "../node/identity/issuer-client.io.ts";
import { namedCluster, renewAtIssuers, withIdentity } from "../node/identity/node-certificate.io.ts";
import { fetchFirst } from "../node/identity/spire.io.ts";

/** Makes a root, and the issuing certificate of a node. Throws with a message for the operator. */
export function makeAuthority({ trustDomain, caDir, ...asked }: IssuerRequest & { readonly trustDomain: string }): NewAuthority {
  if (asked.nodeId !== "") checkNoIssuer(asked.dataDir);
  const { digest, notAfterWallMs } = makeRoot(caDir, trustDomain, Date.now());
  const { issuerEnds } = asked.nodeId === "" ? { issuerEnds: "" } : makeIssuer({ caDir, ...asked });
  const { nodeId, clusterId } = asked;
  return { trustDomain, nodeId, clusterId, rootDigest: digest, rootEnds: new Date(notAfterWallMs).toISOString(), issuerEnds };
}

/** Makes the issuing certificate of a node, with the key of a root. Throws with a message for the operator. */
export function makeIssuer({ caDir, dataDir, clusterId, nodeId }: IssuerRequest): Pick<NewAuthority, "issuerEnds"> {
  checkHolder(new IdentityDirectory(dataDir), { clusterId, name: nodeId });
  const endsWallMs = makeIntermediate(caDir, { clusterId, nodeId }, dataDir, Date.now());
  return { issuerEnds: new Date(endsWallMs).toISOString() };
}

function checkNoIssuer(dataDir: string): void {
  const { issuerFile } = new IdentityDirectory(dataDir);
  if (existsSync(issuerFile))
    throw new Error(`${issuerFile} exists already: this node is an issuer; remove the file if it no longer is one`);
}

/** Throws if the directory has the identity of another name or cluster. An empty name means any name. */
function checkHolder(directory: IdentityDirectory, { clusterId, name }: { readonly clusterId: string; readonly name: string }): void {
  if (!directory.hasIdentity) return;
  const held = directory.read();
  if (held.clusterId !== clusterId || (name !== "" && name !== held.name))
    throw new Error(
      `${directory.nodeFile} belongs to the ${held.role} ${held.name} of cluster ${held.clusterId}; name another directory with --data-dir`,
    );
}

/** Joins a cluster with a token or an attestation, and keeps the certificate in the data directory. Throws with a message for the operator. */
export async function joinMesh({ server, token, name, dataDir, ...attested }: MeshJoin): Promise<Joined> {
  const directory = new IdentityDirectory(dataDir);
  checkNoIssuer(dataDir);
  checkHolder(directory, { ...joinedCluster(token, attested), name });
  // A machine that joins again keeps its name, even if the token admits any name.
  const asked = directory.hasIdentity ? directory.read().name : name;
  const key = directory.nextKey();
  const { clusterId, certificates, records } = await joinCluster(server, token, asked, key, attested);
  // Nothing from an earlier time is kept: a stolen issuer has possibly written it.
  const copy = new TrustCopy(clusterId);
  copy.apply(records);
  if (copy.roots === "") throw new Error(`${server}: the issuer's answer contains no roots`);
  directory.keepTrust(new Map([[clusterId, copy]]));
  directory.keepRoots(copy.roots);
  directory.keep(key, certificates);
  return joinedIn(directory);
}

/** Joins through the first seed with the token in a file, unless the node has an identity. Throws with a message for the operator. */
async function joinOnce({ settings, origins }: EffectiveSettings, tokenFile: string): Promise<void> {
  const { persistence, fabric, node } = settings;
  const { dataDir, ephemeral } = persistence;
  if (ephemeral) throw new Error("--join-token-file requires a data directory");
  if (new IdentityDirectory(dataDir).hasIdentity) return;
  const [server] = fabric.seeds;
  if (server === undefined) throw new Error("--join-token-file requires --join with the fabric address of an issuer");
  const text = readNamedFile({ setting: "--join-token-file", path: tokenFile, maxBytes: MAX_TOKEN_FILE_BYTES });
  const asked = { token: text.toString().trim(), attestation: "", clusterId: "", roots: "" };
  const { clusterId } = joinedCluster(asked.token, asked);
  if ((namedCluster(settings, origins) ?? clusterId) !== clusterId)
    throw new Error(`node.cluster_id is ${node.clusterId}, but the join token is for cluster ${clusterId}`);
  await joinMesh({ ...asked, server, name: node.id ?? "", dataDir });
}

/** Renews the certificate in a data directory at an issuer. Throws with a message for the operator. */
export async function renewCertificate(dataDir: string): Promise<Joined> {
  const directory = new IdentityDirectory(dataDir);
  if (existsSync(directory.issuerFile)) throw new Error(`${dataDir} belongs to an issuer, which renews its certificate when it starts`);
  if (!directory.hasIdentity)
    throw new Error(`${dataDir} contains no identity; run waymark mesh join first, or name the directory with --data-dir`);
  const { clusterId } = directory.read();
  await renewAtIssuers(directory, directory.copyOf(clusterId));
  return joinedIn(directory);
}

function joinedIn(directory: IdentityDirectory): Joined {
  const { role, name: own, clusterId, expiresWallMs } = directory.read();
  return { role, name: own, clusterId, expiresAt: new Date(expiresWallMs).toISOString() };
}

/** Makes the key of a program. `keep` writes it with its certificate, after the certificate was issued. */
export function newClientKey(directory: string): ClientKey {
  const files = ["cert.pem", "key.pem", "roots.pem"].map((file) => join(directory, file));
  const [certFile = "", keyFile = "", rootsFile = ""] = files;
  const key = newKey();
  return {
    publicKey: new P256PrivateKey(key).publicKey,
    keep: async ({ certificates, roots }) => {
      if (!new X509Certificate(certificates).checkPrivateKey(key)) throw new Error("the issuer's answer is for another key");
      makePrivateDirectory(directory);
      writePrivateFile(keyFile, keyPem(key));
      writePrivateFile(certFile, certificates);
      writePrivateFile(rootsFile, roots);
    },
  };
}

/** Returns the settings of a node with the files of its identity. With a file that contains a join token, it joins first. Throws with a message for the operator. */
export async function identified({ settings, origins }: EffectiveSettings, joinTokenFile?: string): Promise<EffectiveSettings> {
  if (joinTokenFile !== undefined) await joinOnce({ settings, origins }, joinTokenFile);
  if (settings.identity.source === "spire") await fetchFirst(settings, origins, Date.now());
  return { settings: withIdentity(settings, origins), origins };
}
