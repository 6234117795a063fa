/**
 * Calls issuers: joins a cluster with a token, and renews a certificate. A server is trusted only if its certificate ends in an expected root and has
 * the DNS name that only issuers of the cluster have, so that no other member can collect tokens.
 */
import { type KeyObject, X509Certificate } from "node:crypto";
import { connect, type DetailedPeerCertificate, type TLSSocket } from "node:tls";
import { clusterOfToken, type JoinToken, parseToken } from "../../control/identity/join-token.ts";
import { joinBytes, renewalBytes } from "../../control/identity/requests.ts";
import { splitHostPort } from "../../lib/addresses.ts";
import { pem } from "../../lib/certificates/certificate.ts";
import { type Revocations, revocationOf } from "../../lib/certificates/revocations.ts";
import { serverNameOf } from "../../lib/certificates/server-names.ts";
import { P256PrivateKey, sha256Hex } from "../../lib/crypto.ts";
import { CODES } from "../../lib/errors.ts";
import { spkiOf } from "./ca.io.ts";
import { FOLLOW, type IssuerCall, type JoinAnswer, joinCall, renewCall, type TrustStep } from "./codec.ts";
import type { OwnCertificate } from "./directory.io.ts";
import { callOnce } from "./single-call.io.ts";

const TIMEOUT_MS = 10_000;
/** Maximum number of certificates that a server may present. */
const MAX_CHAIN = 8;

/** The refusal of an issuer. Another attempt does not help, unless the issuer was not available. */
export class IssuerError extends Error {
  readonly isFinal: boolean;

  constructor(message: string, isFinal: boolean) {
    super(message);
    this.name = "IssuerError";
    this.isFinal = isFinal;
  }
}

/** Without a token, `clusterId` and the roots in PEM say which cluster to join. */
const NO_ATTESTATION = { attestation: "", clusterId: "", roots: "" } as const;

/** Returns the cluster that a token names, or the cluster of an attestation without a token. Throws if there is neither. */
export function joinedCluster(
  text: string,
  { attestation, clusterId }: { readonly attestation: string; readonly clusterId: string },
): { readonly token: JoinToken | undefined; readonly clusterId: string } {
  const token = parseToken(text);
  if (token === undefined && (text !== "" || attestation === ""))
    throw new Error("the token file must contain the line that `waymark mesh token create` has printed");
  return { token, clusterId: token === undefined ? clusterId : clusterOfToken(token) };
}

/** Joins with a token, an attestation or both. `name` may be empty if the token decides it. Rejects with an error for the operator. */
export async function joinCluster(
  server: string,
  text: string,
  name: string,
  key: KeyObject,
  { attestation, ...cluster }: Readonly<Record<keyof typeof NO_ATTESTATION, string>> = NO_ATTESTATION,
): Promise<JoinAnswer & { readonly clusterId: string }> {
  const { token, clusterId } = joinedCluster(text, { attestation, ...cluster });
  const roots = token === undefined ? cluster.roots : await rootOf(server, clusterId, token.rootDigest);
  const signing = new P256PrivateKey(key);
  const asked = { token: text, attestation, name, publicKey: signing.publicKey };
  const { certificates, records } = await callIssuer(
    { address: server, clusterId, roots },
    joinCall({ ...asked, signature: signing.sign(joinBytes(asked)) }),
  );
  return { clusterId, certificates, records };
}

/** Renews a certificate at one issuer. Resolves with the certificates. Rejects with an `IssuerError`, or with an error of the connection. */
export function renewAt(
  address: string,
  { clusterId, role, name, key }: Pick<OwnCertificate, "clusterId" | "key" | "name" | "role">,
  by: Pick<IssuerServer, "own" | "revocations" | "roots">,
  next: KeyObject,
): Promise<string> {
  const signing = new P256PrivateKey(next);
  const asked = { role, name, publicKey: key.publicKey, newPublicKey: signing.publicKey };
  const bytes = renewalBytes(clusterId, asked);
  return callIssuer({ ...by, address, clusterId }, renewCall({ ...asked, signature: key.sign(bytes), newSignature: signing.sign(bytes) }));
}

interface IssuerServer {
  readonly address: string;
  /** A server with a revoked certificate is refused. Absent for newcomers, which know no revocations. */
  readonly revocations?: Revocations;
  readonly clusterId: string;
  /** PEM. */
  readonly roots: string | Buffer;
  /** The key and certificate of this node, in one PEM text. Absent for calls that need none. */
  readonly own?: Buffer;
}

/** Follows the records of an issuer. Resolves with the reason when the stream has ended. */
export async function followIssuer(server: IssuerServer, onStep: (step: TrustStep) => void, signal: AbortSignal): Promise<string> {
  const request = { ...FOLLOW, isSingleResponse: false, scheme: "https" } as const;
  const { status } = await callOnce(await connected(server), request, (bytes) => onStep(FOLLOW.read(bytes)), signal);
  return `${server.address}: ${status.message || "the stream has ended"}`;
}

/** Returns the root, in PEM, that a server presents and whose public key has this digest. Nothing is sent to the server. */
async function rootOf(address: string, clusterId: string, digest: string): Promise<string> {
  const socket = await connected({ address, clusterId, roots: undefined });
  let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  socket.end();
  for (let depth = 0; depth < MAX_CHAIN && certificate?.raw !== undefined; depth++) {
    const { raw, issuerCertificate }: DetailedPeerCertificate = certificate;
    if (sha256Hex(spkiOf(new X509Certificate(raw).publicKey)) === digest) return pem("CERTIFICATE", raw);
    certificate = issuerCertificate === certificate ? undefined : issuerCertificate;
  }
  throw new Error(
    `${address} does not present the root that the token names: it is not an issuer of ${clusterId}, or the token is from another authority`,
  );
}

async function callIssuer<Answer>(server: IssuerServer, call: IssuerCall<Answer>): Promise<Answer> {
  let answer: Answer | undefined;
  const request = { ...call, isSingleResponse: true, timeoutMs: TIMEOUT_MS, scheme: "https" } as const;
  const { status, isFromServer } = await callOnce(await connected(server), request, (bytes) => {
    answer = call.read(bytes);
  });
  if (answer !== undefined && status.code === CODES.OK) return answer;
  throw new IssuerError(`${server.address}: ${status.message}`, isFromServer && status.code !== CODES.UNAVAILABLE);
}

/** Opens a TLS connection to a join endpoint. Without `roots`, the server is not verified. */
function connected({
  address,
  clusterId,
  roots,
  own,
  revocations,
}: Omit<IssuerServer, "roots"> & { readonly roots: IssuerServer["roots"] | undefined }): Promise<TLSSocket> {
  const { host, port } = splitHostPort(address);
  if (!(port > 0 && port < 65_536)) return Promise.reject(new Error(`invalid address "${address}": expected host:port`));
  const trust = { ...(roots === undefined ? { rejectUnauthorized: false } : { ca: roots }), ...(own && { cert: own, key: own }) };
  return new Promise((resolve, reject) => {
    const options = {
      host,
      port,
      servername: serverNameOf(clusterId, "issuer"),
      ALPNProtocols: ["h2"],
      minVersion: "TLSv1.3",
      timeout: TIMEOUT_MS,
    } as const;
    const socket = connect({ ...options, ...trust }, () => {
      socket.setTimeout(0);
      const why = revocations && whyRevoked(socket.getPeerX509Certificate(), revocations);
      if (why === undefined) resolve(socket);
      else socket.destroy(new Error(why));
    });
    socket.once("timeout", () => socket.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    socket.on("error", (error: NodeJS.ErrnoException) => reject(new Error(`${address}: ${dialFault(error)}`, { cause: error })));
  });
}

function whyRevoked(certificate: X509Certificate | undefined, revocations: Revocations): string | undefined {
  if (certificate === undefined) return undefined;
  const { subjectAltName = "", issuer, validFromDate } = certificate;
  return revocationOf({ subjectAltName, issuer, validFromWallMs: validFromDate.getTime() }, revocations);
}

function dialFault({ code, message }: NodeJS.ErrnoException): string {
  if (code !== "ERR_SSL_WRONG_VERSION_NUMBER") return message;
  return "the server does not use TLS on this port; name the fabric address of an issuer (waymark ca status)";
}
