/**
 * The links between members as a part of the fabric. It routes each stream to its link or to the links with other regions, and each frame to its
 * channel.
 */
import type { Time } from "../../lib/machine.ts";
import type { Borders } from "../borders/borders.ts";
import type { FabricInput, FabricOutput, LinkId } from "../io-types.ts";
import type { FabricHandlers, FabricPart, FabricPartList } from "../part.ts";
import type { LinkFrame } from "../wire/messages.ts";
import type { Links } from "./links.ts";
import type { Multiplexer } from "./multiplexer.ts";
import type { LinksInput, LinksOutput } from "./options.ts";

export interface LinksPartParts {
  readonly links: Links;
  /** Sends the frames of links that are up. */
  readonly multiplexer: Multiplexer;
  readonly borders: Borders;
  readonly list: FabricPartList;
}

export class LinksPart implements FabricPart {
  readonly #parts: LinksPartParts;

  constructor(parts: LinksPartParts) {
    this.#parts = parts;
  }

  readonly handle: FabricHandlers = {
    opened: (input, time, out) => this.#stream(input, time, out),
    closed: (input, time, out) => this.#stream(input, time, out),
    received: ({ link, frame }, time, out) => this.#received(link, frame, time, out),
    members: (input, time, out) => this.#give(input, time, out),
  };

  look(time: Time, out: FabricOutput[]): void {
    if (time.monoMs >= this.nextDeadlineMs()) this.#give({ kind: "tick" }, time, out);
  }

  nextDeadlineMs(): number {
    return this.#parts.links.nextDeadlineMs();
  }

  postpone(byMs: number): void {
    this.#parts.links.postpone(byMs);
  }

  /** Ends the link from this side. */
  end(end: Omit<Extract<LinksInput, { kind: "end" }>, "kind">, time: Time, out: FabricOutput[]): void {
    this.#give({ ...end, kind: "end" }, time, out);
  }

  /** Passes streams from other regions to the borders. The links between members do not receive these streams. */
  #stream(input: Extract<FabricInput, { kind: "opened" | "closed" }>, time: Time, out: FabricOutput[]): void {
    const { borders } = this.#parts;
    const isBorder = borders.has(input.link) || (input.kind === "opened" && input.isIncoming && input.identity.border !== undefined);
    if (!isBorder) this.#give(input, time, out);
    else if (input.kind === "opened") borders.opened(input, time, out);
    else borders.closed(input, time, out);
  }

  #received(link: LinkId, frame: LinkFrame, time: Time, out: FabricOutput[]): void {
    const { links, borders, multiplexer, list } = this.#parts;
    if (borders.has(link)) return borders.received(link, frame, time, out);
    links.count(link, "received");
    if (frame.kind === "hello" && frame.hello.borderTo !== undefined) {
      const identity = links.release(link);
      if (identity !== undefined) return borders.greeted(link, frame.hello, identity, time, out);
    }
    if (frame.kind === "hello") return this.#give({ kind: "hello", link, hello: frame.hello }, time, out);
    if (frame.kind === "goodbye") return this.#give({ kind: "goodbye", link, reason: frame.reason, detail: frame.detail }, time, out);
    const news = multiplexer.receive(link, frame, time, out);
    if (news === undefined && links.find(link)?.state === "greeting")
      this.#badFrame(link, `received a ${frame.kind} frame before the hello`, time, out);
    for (const each of news ?? []) {
      if (each.kind === "badFrame") this.#badFrame(link, each.detail, time, out);
      else if (each.kind !== "forAll") list.deliver(each, time, out);
    }
  }

  #badFrame(link: LinkId, detail: string, time: Time, out: FabricOutput[]): void {
    this.end({ link, reason: "bad_frame", detail }, time, out);
  }

  #give(input: LinksInput, time: Time, out: FabricOutput[]): void {
    const outputs: LinksOutput[] = [];
    this.#parts.links.handle(input, time, outputs);
    for (const output of outputs) this.#parts.list.deliver(output, time, out);
  }
}
