/** Membership as a part of the fabric: it tells the other parts what changed, and its calls carry what this node knows of lost origins. */
import type { Time } from "../lib/machine.ts";
import type { BorderCount } from "./borders/border.ts";
import type { Borders } from "./borders/borders.ts";
import type { FabricOutput } from "./io-types.ts";
import type { Links } from "./links/links.ts";
import { isOwnLaterLife } from "./links/peer-auth.ts";
import type { LostWords } from "./lost-origin-notices.ts";
import type { MembershipOutput } from "./membership/io-types.ts";
import type { Membership, MembershipInput } from "./membership/membership.ts";
import type { FabricParts } from "./options.ts";
import type { FabricHandlers, FabricPart, FabricPartList } from "./part.ts";
import type { MemberFacts } from "./wire/messages.ts";

export interface MembershipPartParts {
  readonly list: FabricPartList;
  readonly membership: Membership;
  readonly lost: Pick<LostWords, "told">;
  readonly borders: Pick<Borders, "counts">;
  readonly links: Pick<Links, "isStopping">;
}

export class MembershipPart implements FabricPart {
  readonly #rooms: MembershipPartParts;
  readonly #parts: Pick<FabricParts, "replica" | "seeds" | "self">;

  readonly handle: FabricHandlers = {
    called: (called, time, out) => {
      if (called.request.kind !== "maintain") this.give({ ...called, kind: "asked" }, time, out);
    },
    replied: (replied, time, out) => {
      if (replied.call > 0) this.give({ ...replied, kind: "answered" }, time, out);
    },
    lagged: (input, time, out) => this.give(input, time, out),
    facts: ({ facts }, time, out) => this.give({ kind: "facts", facts: withBorders(facts, this.#rooms.borders.counts) }, time, out),
    borderCounts: ({ counts }, time, out) => this.#changeCounts(counts, time, out),
    up: ({ hello }, time, out) => this.give({ kind: "heardOf", member: hello }, time, out),
    down: ({ hello, goodbye }, time, out) => {
      if (goodbye === undefined) this.give({ kind: "doubted", nodeId: hello.nodeId }, time, out);
    },
    memberChanged: ({ update }, _, out) => void out.push({ kind: "memberChanged", update }),
    memberForgotten: (forgotten, _, out) => void out.push(forgotten),
    ownIdUsed: ({ told, toldBy }, _, out) => {
      const { self, replica } = this.#parts;
      if (isOwnLaterLife(told, { address: self.address, generation: replica.self.generation }))
        out.push({ kind: "generationLost", peerNodeId: toldBy, seq: 0, above: told.generation });
    },
  };

  constructor(rooms: MembershipPartParts, parts: Pick<FabricParts, "replica" | "seeds" | "self">) {
    this.#rooms = rooms;
    this.#parts = parts;
  }

  begin(time: Time, out: FabricOutput[]): void {
    const { seeds } = this.#parts;
    if (seeds.length > 0) this.give({ kind: "join", addresses: seeds }, time, out);
  }

  look(time: Time, out: FabricOutput[]): void {
    if (time.monoMs >= this.nextDeadlineMs()) this.give({ kind: "tick" }, time, out);
  }

  nextDeadlineMs(): number {
    return this.#rooms.membership.nextDeadlineMs();
  }

  give(input: MembershipInput, time: Time, out: FabricOutput[]): void {
    const { membership, lost, list } = this.#rooms;
    const outputs: MembershipOutput[] = [];
    membership.handle(input, time, outputs);
    const request = input.kind === "asked" ? input.request : undefined;
    for (const output of outputs) {
      if (output.kind === "call" || output.kind === "answer") out.push(lost.told(output, request));
      else list.deliver(output, time, out);
    }
    if (outputs.some(({ kind }) => kind === "memberChanged")) list.deliver({ kind: "members" }, time, out);
  }

  #changeCounts(counts: readonly BorderCount[], time: Time, out: FabricOutput[]): void {
    const own = this.#rooms.membership.find(this.#parts.self.nodeId);
    if (own === undefined || this.#rooms.links.isStopping) return;
    const { status: _status, incarnation: _incarnation, accuser: _accuser, ...facts } = own;
    this.give({ kind: "facts", facts: withBorders(facts, counts) }, time, out);
  }
}

/** What a node says of itself. A node without borders says nothing of them. */
export function withBorders(facts: MemberFacts, borders: readonly BorderCount[]): MemberFacts {
  return borders.length === 0 ? facts : { ...facts, borders };
}
