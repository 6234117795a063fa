/** Refuses calls of strangers and of foreign nodes before membership hears of them. Counts all of them, and tells the audit of a few. */

import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import type { Time } from "../../lib/machine.ts";
import { eventOutput, type FabricInput, type FabricOutput } from "../io-types.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import { hostOfPeer, type PeerAuthFacts, refusalOfAnswer, refusalOfCall, refusalOfCaller } from "./peer-auth.ts";

type AskedInput = Extract<FabricInput, { kind: "asked" }>;
type AnsweredInput = Extract<FabricInput, { kind: "answered" }>;

/** The most refusals a minute of one address that are told. */
const MAX_TOLD = 6;
/** The most addresses that are remembered. */
const MAX_ADDRESSES = 256;

export class CallGuard {
  readonly #peerAuth: PeerAuthFacts;
  readonly #told = new TokenBuckets({ limit: MAX_TOLD, windowMs: 60_000, maxKeys: MAX_ADDRESSES });
  refusedCount = 0;

  constructor(peerAuth: PeerAuthFacts) {
    this.#peerAuth = peerAuth;
  }

  /** Whether a connection proves nothing that counts here, whatever its node claims. */
  isStranger(identity: PeerIdentity): boolean {
    return refusalOfCaller(identity, this.#peerAuth) !== undefined;
  }

  /** Returns whether a call may be answered. If not, it is refused. */
  admits({ call, request, identity }: AskedInput, time: Time, out: FabricOutput[]): boolean {
    const refusal = refusalOfCall(request, identity, this.#peerAuth);
    if (refusal === undefined) return true;
    this.refusedCount += 1;
    if (this.#told.take(`${refusal.reason} ${hostOfPeer(identity)}`, time.monoMs) === 0) {
      const detail = { ...refusal, nodeId: request.from.nodeId, address: identity.address, refusedCount: this.refusedCount };
      out.push(eventOutput("call_refused", "warn", detail, { isAudited: true }));
    }
    // A node that proved nothing is told no reason.
    const isProven = refusal.reason === "wrong_cluster" || refusal.reason === "other_region";
    out.push({ kind: "answer", call, response: undefined, ...(isProven && { why: refusal.detail }) });
    return false;
  }

  /** The answer to a call of this node, without its response if a foreign node answered: this node refuses that one. */
  heard(answered: AnsweredInput, time: Time, out: FabricOutput[]): AnsweredInput {
    const { response } = answered;
    if (response === undefined || response.kind === "probeIndirect") return answered;
    const refusal = refusalOfAnswer(response, this.#peerAuth);
    if (refusal === undefined) return answered;
    const { nodeId } = response.from;
    if (this.#told.take(`answer ${nodeId}`, time.monoMs) === 0) out.push(eventOutput("answer_refused", "warn", { ...refusal, nodeId }));
    return { ...answered, response: undefined, refusal: refusal.detail };
  }
}
