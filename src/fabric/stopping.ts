/** How the fabric stops: it says goodbye on each link when all its own news is sent, within a bound (semantics.md, Stop). */
import { NEVER, type Time } from "../lib/machine.ts";
import type { Borders } from "./borders/borders.ts";
import type { FabricOutput, LinkId, StopInput } from "./io-types.ts";
import type { Links } from "./links/links.ts";
import type { LinksPart } from "./links/links-part.ts";
import type { Multiplexer } from "./links/multiplexer.ts";
import type { PeerAuthFacts } from "./links/peer-auth.ts";
import type { Membership } from "./membership/membership.ts";
import type { FabricOptions } from "./options.ts";
import type { FabricHandlers, FabricPart } from "./part.ts";
import type { PolicyExchange } from "./policy-sync.ts";
import type { Replicator } from "./replication/replicator.ts";

export interface StoppingParts {
  readonly links: Links;
  readonly linksPart: Pick<LinksPart, "end">;
  readonly multiplexer: Pick<Multiplexer, "helloOf">;
  readonly borders: Pick<Borders, "size" | "stop">;
  readonly membership: Pick<Membership, "find" | "isQuiet">;
  readonly membershipPart: { give(input: { readonly kind: "leave" }, time: Time, out: FabricOutput[]): void };
  readonly policy: Pick<PolicyExchange, "isBehind">;
  readonly replication: Pick<Replicator, "edgeDueMonoMs">;
  readonly peerAuth: Pick<PeerAuthFacts, "nodeId">;
}

export class Stopping implements FabricPart {
  readonly #options: Pick<FabricOptions, "heldGoodbyeMs" | "stopTimeoutMs">;
  readonly #parts: StoppingParts;
  #stop: { readonly reason: "leave" | "restart"; readonly deadlineMonoMs: number; readonly heldUntilMonoMs: number } | undefined;

  constructor(options: Pick<FabricOptions, "heldGoodbyeMs" | "stopTimeoutMs">, parts: StoppingParts) {
    this.#options = options;
    this.#parts = parts;
  }

  readonly handle: FabricHandlers = { stop: (input, time, out) => this.#begin(input, time, out) };

  /** Says goodbye on a link, if all news of this node is sent there. */
  farewell(link: LinkId, time: Time, out: FabricOutput[]): void {
    const { replication, multiplexer, policy, linksPart } = this.#parts;
    if (this.#stop === undefined || replication.edgeDueMonoMs !== NEVER || multiplexer.helloOf(link) === undefined) return;
    if (policy.isBehind(link) && time.monoMs < this.#stop.heldUntilMonoMs) return;
    linksPart.end({ link, reason: this.#stop.reason, detail: "" }, time, out);
  }

  /** Whether nothing is left to be sent after `stop`. */
  isOver(time: Time): boolean {
    const { links, borders, membership, peerAuth } = this.#parts;
    if (this.#stop === undefined) return false;
    if (time.monoMs >= this.#stop.deadlineMonoMs) return true;
    if (links.size > 0 || borders.size > 0) return false;
    if (this.#stop.reason === "restart" && membership.find(peerAuth.nodeId)?.keepsEntries !== true) return true;
    return membership.isQuiet;
  }

  #begin({ reason, withinMs = this.#options.stopTimeoutMs }: StopInput, time: Time, out: FabricOutput[]): void {
    if (this.#stop !== undefined) return;
    const { links, linksPart, borders, membershipPart } = this.#parts;
    const heldUntilMonoMs = time.monoMs + Math.min(this.#options.heldGoodbyeMs, withinMs / 2);
    this.#stop = { reason, deadlineMonoMs: time.monoMs + this.#options.stopTimeoutMs, heldUntilMonoMs };
    links.stop(reason);
    for (const { link, state } of links.rows) if (state !== "up") linksPart.end({ link, reason, detail: "" }, time, out);
    borders.stop(reason, time, out);
    if (reason === "leave") membershipPart.give({ kind: "leave" }, time, out);
  }
}
