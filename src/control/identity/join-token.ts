/**
 * Join tokens, as text: `wmj1.<SHA-256 of the root's public key>.<id>.<secret>`. A newcomer accepts only the authority
 * with this digest, as with the CA hash in a token of Docker Swarm. The id starts with the cluster: `<cluster>:<random>`.
 */
import { sha256Hex } from "../../lib/crypto.ts";

export interface JoinToken {
  /** SHA-256 of the root's public key, in hex. */
  readonly rootDigest: string;
  readonly id: string;
  readonly secret: string;
}

const TOKEN = /^wmj1\.([0-9a-f]{64})\.([A-Za-z0-9._-]{1,64}:[0-9a-f]{12})\.([A-Za-z0-9_-]{43})$/;
const ID_BYTES = 6;
const SECRET_BYTES = 32;

/** Makes the id and the secret of a token. */
export function newToken(clusterId: string, rootDigest: string, random: (count: number) => Uint8Array): JoinToken {
  const id = `${clusterId}:${Buffer.from(random(ID_BYTES)).toString("hex")}`;
  return { rootDigest, id, secret: Buffer.from(random(SECRET_BYTES)).toString("base64url") };
}

export function tokenText({ rootDigest, id, secret }: JoinToken): string {
  return `wmj1.${rootDigest}.${id}.${secret}`;
}

/** Undefined for a text that is not a join token. */
export function parseToken(text: string): JoinToken | undefined {
  const [, rootDigest, id, secret] = TOKEN.exec(text) ?? [];
  return rootDigest === undefined || id === undefined || secret === undefined ? undefined : { rootDigest, id, secret };
}

export function clusterOfToken({ id }: Pick<JoinToken, "id">): string {
  return id.slice(0, id.lastIndexOf(":"));
}

/** The digest under which the secret of a token is stored. A secret has 256 random bits, so that it needs no slow hash. */
export function secretDigest(secret: string): string {
  return sha256Hex(secret);
}
