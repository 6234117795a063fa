/** Verifies the attestations of newcomers, with the keys in the join policy. */
import type { JoinPolicy } from "../../control/identity/codec.ts";
import type { Attestation } from "../../control/identity/join-policy.ts";
import { MINUTE_MS } from "../../lib/duration.ts";
import { WaymarkError } from "../../lib/errors.ts";

const SUBJECT = /^[!-~]{1,512}$/;

/** Verifies a token of one of these issuers. Resolves with the reasons if no issuer has signed it, or if it is not valid. */
export async function attest(token: string, issuers: JoinPolicy["issuers"], wallMs: number): Promise<Attestation | string> {
  // Loaded only here, because most nodes verify no tokens and the library needs 20 ms to load.
  const { verifiedClaims } = await import("../../policy/identity/tokens.io.ts");
  const faults: string[] = [];
  for (const { name, jwks, ...conditions } of issuers) {
    try {
      const claims = await verifiedClaims(token, jwks, { ...conditions, clockSkewMs: MINUTE_MS }, wallMs);
      const { sub: subject } = claims;
      if (typeof subject === "string" && SUBJECT.test(subject)) return { issuer: name, subject, claims };
      faults.push(`${name}: token's claim sub must be 1 to 512 printable characters without spaces`);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      faults.push(`${name}: ${error.message}`);
    }
  }
  return faults.join("; ") || "the join policy names no issuer of attestations";
}
