/** The policy as a channel of the links. `PolicyExchange` says what is sent on each. */
import { NEVER } from "../lib/machine.ts";
import type { LinkId } from "./io-types.ts";
import type { ChannelSession, Greeted, LinkChannel, SharedNews } from "./links/channel.ts";
import { POLICY_FIRST, POLICY_FROM, type PolicySource } from "./policy-sources.ts";
import type { PolicyExchange } from "./policy-sync.ts";
import type { PolicyFrame } from "./wire/messages.ts";

export class PolicyChannel implements LinkChannel<PolicyFrame> {
  readonly kinds = ["policyHead", "policyWanted", "policySettled", "policyPart"] as const;
  readonly capabilities = [POLICY_FROM, POLICY_FIRST];
  readonly speaks = "in turn";
  readonly #exchange: PolicyExchange;
  readonly #sourceOf: (clusterId: string) => PolicySource;
  /** A frame came, and may be news for all other links. */
  #hasNews = false;
  readonly shared: SharedNews = {
    order: 0,
    tick: () => {},
    isDue: () => this.#hasNews,
    looked: () => {
      this.#hasNews = false;
    },
    nextDeadlineMs: () => NEVER,
  };

  /** `sourceOf`: how this node treats a policy that nodes of a cluster offer. */
  constructor(exchange: PolicyExchange, sourceOf: (clusterId: string) => PolicySource = () => "accepted") {
    this.#exchange = exchange;
    this.#sourceOf = sourceOf;
  }

  open(link: LinkId, { hello: { nodeId, clusterId, capabilities } }: Greeted): ChannelSession<PolicyFrame> {
    const exchange = this.#exchange;
    const takesAny = !capabilities.includes(POLICY_FROM);
    const settles = capabilities.includes(POLICY_FIRST);
    exchange.opened(link, { nodeId, clusterId, source: this.#sourceOf(clusterId), takesAny, settles });
    return {
      next: (time) => exchange.next(link, time),
      receive: (frame, time, out) => {
        exchange.receive(link, frame, time, out);
        this.#hasNews = true;
        return [];
      },
      hasWork: () => exchange.hasWork(link),
      // Nothing is due on one link alone: the exchange looks at its clock for all of them.
      tick: () => {},
      nextDeadlineMs: () => NEVER,
      // Without the policy that the peer has, this node would show what the cluster hides.
      get isCaughtUp() {
        return exchange.isSettledWith(link);
      },
    };
  }

  closed(link: LinkId): void {
    this.#exchange.closed(link);
  }
}
