/**
 * A client that watches at nodes and resolvers in turn, as the product's clients do: it follows with `WatchFollower` and takes its portable cursor along. At each END
 * and bookmark it holds what a query there answers, and a cursor of a resolver is the place of what it holds.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { EntryKey } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogWatchResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { ANY, coversNamespace, type EntryFilter } from "../../../src/catalog/query/filter.ts";
import { type CatalogRecord, deltaId, viewHealth } from "../../../src/catalog/record/record.ts";
import { parseCursor } from "../../../src/catalog/watch/cursor.ts";
import { type FollowEvent, readEntryPayload, WatchFollower } from "../../../src/consumer/watch-follower.ts";
import type { CatalogReads } from "../../../src/discovery/reads.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import type { Checks } from "../checks.ts";
import type { Trace } from "../trace.ts";
import type { World } from "../world.ts";
import { tenantOf } from "./answers.ts";
import type { History } from "./history.ts";
import type { Sent, Server } from "./server.ts";
import type { Host, Line, Source, Wires } from "./wires.ts";

/** Where it reads. */
export interface Place {
  readonly server: Server;
  /** Undefined while nothing runs there. */
  readonly reads: CatalogReads | undefined;
  /** Whether it is a resolver, and so shows no LOCAL entries. */
  readonly isResolver: boolean;
  /** Whether an entry is shown to watches. */
  shows(record: CatalogRecord): boolean;
  /** As `Query.epoch`. */
  epoch(): string | undefined;
}

export interface RoamerParts {
  readonly world: World;
  readonly wires: Wires;
  readonly checks: Checks;
  readonly trace: Trace;
  readonly history: History;
  readonly places: readonly Place[];
}

export interface RoamerPlan {
  readonly caller: Caller;
  readonly prefix: string;
  readonly place: number;
}

const RETRY_MS = 300;

type Asked = Sent & { readonly query: Query };

export class Roamer {
  readonly index: number;
  readonly #plan: RoamerPlan;
  readonly #parts: RoamerParts;
  readonly #host: Host;
  readonly #filter: EntryFilter;
  readonly #held = new Map<string, string>();
  readonly #follower = new WatchFollower("", { seen: readEntryPayload });
  #line: Line | undefined;
  #place: number;
  #openCount = 0;
  /** ENDs and bookmarks, and those at resolvers, and those of them with a cursor. */
  readonly counts = { settled: 0, atResolvers: 0, places: 0 };

  constructor(index: number, plan: RoamerPlan, parts: RoamerParts) {
    this.index = index;
    this.#plan = plan;
    this.#parts = parts;
    this.#place = plan.place;
    this.#filter = { ...ANY, prefix: plan.prefix };
    this.#host = { name: `c${index}`, isUp: true, isSilent: false, isFrozen: false, life: 0 };
  }

  /** The stream is cut; another is opened there. */
  move(place: number): void {
    this.#line?.close();
    this.#place = place % this.#parts.places.length;
    this.open();
  }

  open(): void {
    const place = this.#parts.places[this.#place];
    if (place === undefined) return;
    this.#openCount += 1;
    const count = this.#openCount;
    const { caller, prefix } = this.#plan;
    const cursor = this.#follower.open(`${place.server.host.name} ${place.server.host.life}`);
    this.#parts.trace.say(
      () => `${this.#host.name} opens at ${place.server.host.name} ${cursor === "" ? "anew" : `from ${cursor.slice(0, 2)}`}`,
    );
    const open = () => place.server.watch({ prefixes: [prefix], cursor, caller });
    this.#line = this.#parts.wires.stream<Asked>(this.#host, place.server.host, () => watched(open(), place, this.#plan), {
      said: (sent) => {
        if (count === this.#openCount) this.#said(place, sent);
      },
      ended: () => this.#ended(count),
    });
  }

  #ended(count: number): void {
    if (count !== this.#openCount) return;
    this.#follower.broken(0.5, { isAway: true });
    this.#parts.world.after(RETRY_MS, () => {
      if (count === this.#openCount) this.open();
    });
  }

  #said(place: Place, { bytes, query }: Asked): void {
    const message = fromBinary(CatalogWatchResponseSchema, bytes);
    const events: FollowEvent[] = [];
    this.#follower.message(message, events);
    const { name } = place.server.host;
    this.#parts.trace.say(
      () =>
        `${this.#host.name} hears of ${name}: ${message.deltas.length} deltas, snapshot ${message.snapshot}, bookmark ${message.bookmark}`,
    );
    if (this.#follower.hasUnconfirmed) return this.move(this.#place);
    for (const event of events) {
      if (event.kind === "put") this.#put(place, event, query);
      else if (event.kind === "remove") this.#held.delete(textOf(event.key));
      else this.#synced(place, message.portableCursor, query);
    }
  }

  #put({ server }: Place, { key, deltaId: id, entry }: FollowEvent & { kind: "put" }, { epoch }: Query): void {
    const { checks, history } = this.#parts;
    const { caller } = this.#plan;
    const isSeen = epoch === undefined || history.maySee(epoch, caller, key.namespace);
    checks.holds(
      isSeen,
      "P12",
      () => `${server.host.name} tells a watch of ${tenantOf(caller)} of ${textOf(key)}, which policy ${epoch} hides`,
    );
    this.#held.set(textOf(key), `${id} ${entry.health}`);
  }

  #synced(place: Place, cursor: string, { lines }: Query): void {
    const { checks } = this.#parts;
    const what = () => `${this.#host.name} for ${tenantOf(this.#plan.caller)} below "${this.#plan.prefix}" at ${place.server.host.name}`;
    const held = [...this.#held]
      .map(([key, line]) => `${key} ${line}`)
      .toSorted()
      .join("\n");
    this.counts.settled += 1;
    checks.holds(held === lines.join("\n"), "P3", () => `${what()} holds\n${held}\nand a query answers\n${lines.join("\n")}`);
    if (!place.isResolver) return;
    this.counts.atResolvers += 1;
    if (cursor !== "") this.#atPlace(cursor, held, what);
  }

  /** A cursor that a resolver gives out is of a place at which some node showed that. */
  #atPlace(text: string, held: string, what: () => string): void {
    const { checks, history } = this.#parts;
    const cursor = parseCursor(text);
    if (cursor.kind !== "portable") return;
    this.counts.places += 1;
    const { caller } = this.#plan;
    const sees = (namespace: string) => coversNamespace(this.#filter, namespace) && history.maySee(cursor.policyEpoch, caller, namespace);
    const shown = history.shownAt(cursor).map((at) =>
      [...at.values()]
        .filter(({ namespace }) => sees(namespace))
        .map(({ line }) => line)
        .toSorted()
        .join("\n"),
    );
    checks.holds(
      shown.includes(held),
      "P17",
      () =>
        `${what()} has a cursor that ${shown.length === 0 ? "no node gave out" : `stands for\n${shown.join("\nor\n")}`}\nand holds\n${held}`,
    );
  }
}

/** What a query of the same reader answered when a message was made. */
interface Query {
  readonly lines: readonly string[];
  /** The newest policy that the resolver had heard of by then. Undefined at a node, and where it had heard of none. */
  readonly epoch: string | undefined;
}

/** Asks with each message: what it says is compared when it has arrived. */
function watched(source: ReturnType<Server["watch"]>, place: Place, { caller, prefix }: RoamerPlan): Source<Asked> {
  return {
    pull: () => {
      const sent = source.pull();
      return sent && { ...sent, query: { lines: queried(place, caller, prefix), epoch: place.epoch() } };
    },
    close: () => source.close(),
  };
}

function queried(place: Place, caller: Caller, prefix: string): readonly string[] {
  const { reads } = place;
  if (reads === undefined) return [];
  const lines: string[] = [];
  let token = "";
  do {
    const page = reads.page(caller, { filter: { ...ANY, prefix }, limit: 100, token, isExplained: false, salt: "sim" });
    for (const record of page.records)
      if (place.shows(record)) lines.push(`${record.key.replaceAll("\0", "|")} ${deltaId(record)} ${viewHealth(record)}`);
    token = page.nextToken;
  } while (token !== "");
  return lines.toSorted();
}

function textOf({ kind, namespace, name, instanceId, clusterId }: EntryKey): string {
  return [namespace, name, kind, instanceId, clusterId].join("|");
}
