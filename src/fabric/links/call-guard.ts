/** Refuses calls from unknown callers and from foreign nodes before membership sees them. Counts all refusals, and audits a few of them. */

import { TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import type { Time } from "../../lib/machine.ts";
import { eventOutput, type FabricInput, type FabricOutput } from "../io-types.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import { hostOfPeer, type PeerAuthFacts, refusalOfAnswer, refusalOfCall, refusalOfCaller } from "./peer-auth.ts";

type AskedInput = Extract<FabricInput, { kind: "asked" }>;
type AnsweredInput = Extract<FabricInput, { kind: "answered" }>;

/** Maximum number of refusals that are logged per address and per minute. */
const MAX_LOGGED = 6;
/** Maximum number of remembered addresses. */
const MAX_ADDRESSES = 256;

export class CallGuard {
  readonly #peerAuth: PeerAuthFacts;
  readonly #logged = new TokenBuckets({ limit: MAX_LOGGED, windowMs: 60_000, maxKeys: MAX_ADDRESSES });
  refusedCount = 0;

  constructor(peerAuth: PeerAuthFacts) {
    this.#peerAuth = peerAuth;
  }

  /** Returns whether a connection has no proof that this node accepts, regardless of the caller's claims. */
  isStranger(identity: PeerIdentity): boolean {
    return refusalOfCaller(identity, this.#peerAuth) !== undefined;
  }

  /** Returns whether a call may be answered. Otherwise refuses it. */
  admits({ call, request, identity }: AskedInput, time: Time, out: FabricOutput[]): boolean {
    const refusal = refusalOfCall(request, identity, this.#peerAuth);
    if (refusal === undefined) return true;
    this.refusedCount += 1;
    if (this.#logged.take(`${refusal.reason} ${hostOfPeer(identity)}`, time.monoMs) === 0) {
      const detail = { ...refusal, nodeId: request.from.nodeId, address: identity.address, refusedCount: this.refusedCount };
      out.push(eventOutput("call_refused", "warn", detail, { isAudited: true }));
    }
    // A caller without valid proof is not given a reason.
    const isProven = refusal.reason === "wrong_cluster" || refusal.reason === "other_region";
    out.push({ kind: "answer", call, response: undefined, ...(isProven && { why: refusal.detail }) });
    return false;
  }

  /** Removes the response from an answer that a foreign node sent, so this node ignores that node. */
  filterAnswer(answered: AnsweredInput, time: Time, out: FabricOutput[]): AnsweredInput {
    const { response } = answered;
    if (response === undefined || response.kind === "probeIndirect") return answered;
    const refusal = refusalOfAnswer(response, this.#peerAuth);
    if (refusal === undefined) return answered;
    const { nodeId } = response.from;
    if (this.#logged.take(`answer ${nodeId}`, time.monoMs) === 0) out.push(eventOutput("answer_refused", "warn", { ...refusal, nodeId }));
    return { ...answered, response: undefined, refusal: refusal.detail };
  }
}
