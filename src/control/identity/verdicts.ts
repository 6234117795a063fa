/** Decides whether a program gets a certificate: the rules for joining with a token, and for renewing with the key of the current certificate. */
import { equalSecrets } from "../../lib/crypto.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { PolicyOutcome } from "./join-policy.ts";
import { secretDigest } from "./join-token.ts";
import { MAX_EARLIER_KEYS, type NameRecord, type TokenRecord } from "./records.ts";

/** Why a program gets no certificate, as in `metadata.problem` of the error. */
export type IdentityProblem =
  | "identity_expired"
  | "identity_taken"
  | "identity_unknown"
  | "join_denied"
  | "key_copied"
  | "not_attested"
  | "revoked"
  | "token_expired"
  | "token_spent"
  | "token_unknown"
  | "token_wrong_cluster";

export function refused(problem: IdentityProblem, message: string): WaymarkError {
  return new WaymarkError("discovery_access_denied", `${message} (${problem})`, { metadata: { problem } });
}

export interface JoinClaim {
  readonly name: string;
  /** SHA-256 of the newcomer's public key. The newcomer has proved that it has the private key. */
  readonly keyDigest: string;
  /** Empty if there is no token. */
  readonly tokenId: string;
  readonly secret: string;
  /** The cluster of the issuer. */
  readonly clusterId: string;
  /** The decision of the join policy. If it is undefined, only a token admits. */
  readonly outcome?: PolicyOutcome;
}

/** The records in the store that a request concerns. */
export interface JoinState {
  readonly token: TokenRecord | undefined;
  readonly held: NameRecord | undefined;
}

/** `repeated`: the answer to the same request was lost, and it is answered again. */
export type Verdict = "admitted" | "repeated";

/** Throws `discovery_access_denied` for a newcomer that is not admitted. */
export function judgeJoin(asked: JoinClaim, { token, held }: JoinState, wallMs: number): Verdict {
  const { name, keyDigest, tokenId, outcome } = asked;
  // The join policy is second, so that a program with an invalid token learns nothing about the policy.
  if (tokenId !== "" || outcome === undefined) checkToken(asked, token, wallMs);
  if (outcome?.refusal !== undefined) throw refused(outcome.refusal.problem, outcome.refusal.message);
  if (held?.isRevoked === true && isKeyOf(held, keyDigest))
    throw refused("revoked", `public_key: the key of ${name} was revoked; join with a new key`);
  const isHolder = held?.keyDigest === keyDigest;
  if (isHolder && held?.tokenId === tokenId) return "repeated";
  if (token !== undefined && token.used >= token.uses)
    throw refused("token_spent", `token: it has been used ${token.used} of ${token.uses} times`);
  const { attestedBy = "" } = outcome ?? {};
  const isNamed = token?.name === name || (attestedBy !== "" && attestedBy === held?.attestedBy);
  if (held === undefined || isHolder || (isFree(held, wallMs) && isNamed)) return "admitted";
  const why = isFree(held, wallMs) ? "has expired or was revoked, so only a token for this name admits it" : "is held by another key";
  throw refused("identity_taken", `name: ${name} ${why}`);
}

function checkToken({ name, secret, clusterId }: JoinClaim, token: TokenRecord | undefined, wallMs: number): void {
  if (token === undefined || !equalSecrets(token.secretDigest, secretDigest(secret)))
    throw refused("token_unknown", "token: no such token; it may have been revoked, or its time ended more than a day ago");
  if (token.clusterId !== clusterId)
    throw refused("token_wrong_cluster", `token: it is for the cluster ${token.clusterId}, and this issuer belongs to ${clusterId}`);
  if (wallMs >= token.expiresWallMs)
    throw refused("token_expired", `token: it ended at ${new Date(token.expiresWallMs).toISOString()}; make another one`);
  if (token.name !== "" && token.name !== name) throw refused("join_denied", `name: the token admits ${token.name} only, got ${name}`);
}

/** Whether the key is, or was, the key of this holder. */
export function isKeyOf(held: NameRecord, keyDigest: string): boolean {
  return held.keyDigest === keyDigest || held.earlierKeys.includes(keyDigest);
}

/** Whether another program may get the name. */
function isFree(held: NameRecord, wallMs: number): boolean {
  return held.isRevoked || wallMs > held.expiresWallMs;
}

export interface RenewalClaim {
  readonly name: string;
  /** The key that signed the request, and the key of the new certificate. */
  readonly keyDigest: string;
  readonly newKeyDigest: string;
  /** Time after its end for which a certificate can be renewed. */
  readonly renewAfterEndMs: number;
}

/** Throws `discovery_access_denied` for a certificate that is not renewed. */
export function judgeRenewal(asked: RenewalClaim, held: NameRecord | undefined, wallMs: number): Verdict {
  const { name, keyDigest, newKeyDigest, renewAfterEndMs } = asked;
  if (held === undefined) throw refused("identity_unknown", `name: no certificate was issued for ${name}; join with a token`);
  if (held.isRevoked) throw refused("revoked", `name: ${name} was revoked; join with a new key and a token for this name`);
  const isRepeated = keyDigest === held.earlierKeys[0] && newKeyDigest === held.keyDigest;
  const isCurrent = keyDigest === held.keyDigest && newKeyDigest !== keyDigest && !held.earlierKeys.includes(newKeyDigest);
  if (!isRepeated && !isCurrent) {
    if (held.earlierKeys.includes(keyDigest))
      throw refused("key_copied", `public_key: ${name} has renewed this key already; if it was not this program, the key was copied`);
    throw refused("identity_taken", `public_key: it is not the key of ${name}, or the new key was used before`);
  }
  if (wallMs > held.expiresWallMs + renewAfterEndMs)
    throw refused("identity_expired", `name: the certificate of ${name} ended too long ago; join with a token for this name`);
  return isRepeated ? "repeated" : "admitted";
}

/** The record after its key was replaced. */
export function withKey(held: NameRecord | undefined, keyDigest: string): Pick<NameRecord, "earlierKeys" | "keyDigest"> {
  if (held === undefined || held.keyDigest === keyDigest) return { keyDigest, earlierKeys: held?.earlierKeys ?? [] };
  return { keyDigest, earlierKeys: [held.keyDigest, ...held.earlierKeys].slice(0, MAX_EARLIER_KEYS) };
}
