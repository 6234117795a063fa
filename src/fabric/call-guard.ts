/** Calls of strangers: refused before membership hears of them, told to the audit a few times, counted always. */
import type { Time } from "../lib/machine.ts";
import { TokenBuckets } from "../lib/token-bucket.ts";
import type { CallRequest, PeerProof } from "./messages.ts";
import type { FabricOutput } from "./seam.ts";
import { hostOf, refusalOfCall, type TrustFacts } from "./trust.ts";

/** Refusals told a minute and address. */
const MAX_TOLD = 6;
/** Addresses remembered. */
const MAX_ADDRESSES = 256;

export class CallGuard {
  readonly #trust: TrustFacts;
  readonly #told = new TokenBuckets({ limit: MAX_TOLD, windowMs: 60_000, maxKeys: MAX_ADDRESSES });
  refusedCount = 0;

  constructor(trust: TrustFacts) {
    this.#trust = trust;
  }

  /** Whether the asker may ask. */
  admits({ from }: CallRequest, proof: PeerProof, time: Time, out: FabricOutput[]): boolean {
    const refusal = refusalOfCall(from, proof, this.#trust);
    if (refusal === undefined) return true;
    this.refusedCount += 1;
    if (this.#told.take(`${refusal.reason} ${hostOf(proof)}`, time.monoMs) === 0) {
      const detail = { ...refusal, nodeId: from.nodeId, address: proof.address, refusedCount: this.refusedCount };
      out.push({ kind: "event", event: { name: "call_refused", severity: "warn", isAudited: true, detail } });
    }
    return false;
  }
}
