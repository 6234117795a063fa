/** The policy as a channel of the links: what is said of it on each, by `PolicyExchange`. */
import type { Time } from "../lib/machine.ts";
import type { FabricOutput, LinkId } from "./io-types.ts";
import type { Greeted, LinkChannel, SharedNews } from "./links/channel.ts";
import { POLICY_FIRST, POLICY_FROM, type PolicySource } from "./policy-sources.ts";
import type { PolicyExchange } from "./policy-sync.ts";
import type { PolicyFrame } from "./wire/messages.ts";

export class PolicyChannel implements LinkChannel<PolicyFrame> {
  readonly kinds = ["policyHead", "policyWanted", "policySettled", "policyPart"] as const;
  readonly capabilities = [POLICY_FROM, POLICY_FIRST];
  readonly speaks = "in turn";
  readonly #exchange: PolicyExchange;
  readonly #sourceOf: (clusterId: string) => PolicySource;
  /** What came on one link may be for all others. */
  #hasNews = false;
  readonly shared: SharedNews = {
    order: 0,
    tick: () => {},
    isDue: () => this.#hasNews,
    looked: () => {
      this.#hasNews = false;
    },
    nextDeadlineMs: () => Number.POSITIVE_INFINITY,
  };

  /** `sourceOf`: what a cluster's nodes are to this one when they offer a policy. */
  constructor(exchange: PolicyExchange, sourceOf: (clusterId: string) => PolicySource = () => "accepted") {
    this.#exchange = exchange;
    this.#sourceOf = sourceOf;
  }

  opened(link: LinkId, { hello: { nodeId, clusterId, capabilities } }: Greeted): void {
    const takesAny = !capabilities.includes(POLICY_FROM);
    const settles = capabilities.includes(POLICY_FIRST);
    this.#exchange.opened(link, { nodeId, clusterId, source: this.#sourceOf(clusterId), takesAny, settles });
  }

  closed(link: LinkId): void {
    this.#exchange.closed(link);
  }

  next(link: LinkId, time: Time): PolicyFrame | undefined {
    return this.#exchange.next(link, time);
  }

  receive(link: LinkId, frame: PolicyFrame, time: Time, out: FabricOutput[]): readonly [] {
    this.#exchange.receive(link, frame, time, out);
    this.#hasNews = true;
    return [];
  }

  hasWork(link: LinkId): boolean {
    return this.#exchange.hasWork(link);
  }

  /** Nothing is due on a link alone: the exchange looks at its clock for all of them. */
  tick(): readonly [] {
    return [];
  }

  nextDeadlineMs(): number {
    return Number.POSITIVE_INFINITY;
  }

  /** Without the policy that the peer has, this node would show what the cluster hides. */
  isCaughtUp(link: LinkId): boolean {
    return this.#exchange.isSettledWith(link);
  }
}
