/** Checks what resolvers answer, with the naive model of `history.ts`: nothing is known here of how they come to it. */

import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { ANY } from "../../../src/catalog/query/filter.ts";
import type { InstanceName } from "../../../src/catalog/query/instances.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { type CatalogRecord, HEALTH, type KeyText, keyParts, viewHealth } from "../../../src/catalog/record/record.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import { lineOf } from "../../fakes/model.ts";
import type { Checks } from "../checks.ts";
import type { World } from "../world.ts";
import type { HiddenOrigins } from "./hidden-origins.ts";
import type { History } from "./history.ts";
import type { Sent } from "./server.ts";
import { nameText, type ResolverProcess, type Told, TTLS } from "./sim-resolver.ts";

/** Some policies show to the second what they hide from the others. */
export const CALLERS: readonly Caller[] = ["", "nobody", "blue"].map((tenant) => ({ ...anonymousCaller("c1", "127.0.0.1", []), tenant }));

/** Ages are whole ms, and a machine rounds its clocks. */
const ROUNDING_MS = 2;
/** An answer is marked after so long a silence of the upstream. */
const SILENT_MS = 3000;
/** A held entry is let go with the next tick after its time. */
const TICK_MS = 100;

export interface AnswerParts {
  readonly world: World;
  readonly history: History;
  readonly checks: Checks;
  /** Indexes of nodes that are down for good, and with them what was registered there. */
  readonly gone: ReadonlySet<number>;
  readonly hidden: HiddenOrigins;
}

export class AnswerChecks {
  readonly #parts: AnswerParts;
  /** By process and key: since when an entry is served that every node knows to be gone. */
  readonly #held = new WeakMap<ResolverProcess, Map<KeyText, { readonly number: number; readonly sinceMs: number }>>();
  /** Whether every resolver is told of all changes, so that the model knows what it must show. */
  isExact = true;
  count = 0;
  atPlaceCount = 0;
  heldCount = 0;
  staleCount = 0;

  constructor(parts: AnswerParts) {
    this.#parts = parts;
  }

  /** An answer to a caller that asked for a name. */
  answered(process: ResolverProcess, caller: Caller, name: InstanceName, told: Told): void {
    const { checks, history } = this.#parts;
    const what = () => `${process.host.name} answers ${tenantOf(caller)} for ${nameText(name)} ${told.source}`;
    this.count += 1;
    if (told.isStale) this.staleCount += 1;
    const { heard } = process;
    checks.holds(
      heard === undefined || process.rooms.policies.policy.number >= heard.number,
      "P12",
      () => `${what()} under policy ${process.epoch} and has heard of ${heard?.epoch}`,
    );
    const mayKnow = heard === undefined || history.maySee(heard.epoch, caller, name.namespace);
    checks.holds(mayKnow || told.records.length === 0, "P12", () => `${what()} with what policy ${heard?.epoch} hides`);
    const { reads } = process.rooms;
    const isAllowed = reads.verdict(caller, name.namespace).allowed;
    const isShown = reads.isSettled && history.maySee(process.epoch, caller, name.namespace);
    checks.holds(isAllowed || !isShown, "unknown", () => `${what()} with nothing, though policy ${process.epoch} shows it`);
    if (!mayKnow || !isAllowed) return;
    if (told.source !== "fetched") this.#followed(process, name, told, what);
    for (const record of told.records) checks.holds(record.scope !== SCOPE.LOCAL, "P1", () => `${what()} with a LOCAL entry ${record.key}`);
    if (!this.isExact) return;
    const shown = new Map(told.records.map((record) => [record.key, record]));
    for (const key of history.keys) {
      const { kind, namespace, name: its } = keyParts(key);
      if (kind === name.kind && namespace === name.namespace && its === name.name) this.#entry(process, key, shown.get(key), told, what);
    }
  }

  #followed(process: ResolverProcess, { namespace }: InstanceName, { ageMs, isStale, source }: Told, what: () => string): void {
    const { checks, world } = this.#parts;
    const isTold = process.told.some((prefixes) => new NamespacePrefixes(prefixes).covers(namespace));
    checks.holds(isTold, "unknown", () => `${what()} before its snapshot is there`);
    const sinceMs = world.nowMs - (process.stated?.throughMs ?? 0);
    checks.holds(
      process.stated === undefined ? !Number.isFinite(ageMs) : ageMs >= sinceMs - ROUNDING_MS,
      "age",
      () => `${what()} as ${ageMs} ms old, and was told ${process.stated === undefined ? "nothing" : `what was so ${sinceMs} ms ago`}`,
    );
    checks.holds(
      process.isFromDisk === undefined || process.isFromDisk === (source === "disk"),
      "disk",
      () => `${what()}, and ${process.isFromDisk ? "no" : "an"} upstream told it more`,
    );
    const silentMs = world.nowMs - process.lastHeardMs;
    checks.holds(isStale || silentMs <= SILENT_MS + ROUNDING_MS, "age", () => `${what()} as not stale after ${silentMs} ms of silence`);
  }

  /** One key of the name: an answer shows nothing that is older than it says. */
  #entry(process: ResolverProcess, key: KeyText, record: CatalogRecord | undefined, told: Told, what: () => string): void {
    const { history, checks } = this.#parts;
    const { namespace } = keyParts(key);
    const deeds = history.deeds(key);
    const bound = this.#boundMs(told);
    const known = deeds.findLast(({ settledMs = Number.POSITIVE_INFINITY }) => settledMs <= bound);
    if (known === undefined) return;
    const later = deeds.filter(({ number }) => number > known.number);
    const age = () =>
      `known everywhere ${(this.#parts.world.nowMs - (known.settledMs ?? 0)).toFixed(0)} ms ago, by its age of ${told.ageMs} ms`;
    if (record === undefined) {
      // A put elsewhere ends the renewals here.
      const mayBeGone = known.kind !== "put" || later.length > 0;
      const { gone, hidden } = this.#parts;
      const isHidden = gone.has(known.node) || hidden.isHiddenSince(known.node, bound) || history.mayBeOwned(namespace);
      checks.holds(mayBeGone || isHidden, "age", () => `${what()} without ${key}, ${age()}`);
      return;
    }
    const number = numberOf(record);
    // What was there before may be shown again.
    if (later.some(({ kind, scope }) => kind === "lapse" || scope === SCOPE.LOCAL)) return;
    if (number > known.number || (number === known.number && known.kind === "put")) return;
    // Whatever is done later elsewhere ends the renewals, though not everybody may hear of it: then what was there before is shown again.
    if (known.kind === "put" && later.length > 0) return;
    // What is gone may be held, unless the resolver was told that it was unregistered. What was put anew may not.
    if (history.mayBeOwned(namespace) || this.#parts.gone.has(known.node)) return;
    // A change was lost on the way to it, and since then no upstream could tell it of that.
    if (process.differs) return;
    const isDoubtful = known.kind !== "put" && !process.unregistered.has(key);
    checks.holds(isDoubtful, "guard", () => `${what()} with ${key} of ${number}, and ${known.kind} ${known.number} is ${age()}`);
    this.#guarded(process, key, record, told, what);
  }

  /** An entry that every node knows to be gone is served: as one that is held, and not without end. */
  #guarded(process: ResolverProcess, key: KeyText, record: CatalogRecord, told: Told, what: () => string): void {
    const { world, checks } = this.#parts;
    const { guardHoldMs } = process.host.plan;
    const held = this.#held.get(process) ?? new Map<KeyText, { readonly number: number; readonly sinceMs: number }>();
    this.#held.set(process, held);
    // The same key may have been there again meanwhile.
    const number = numberOf(record);
    const known = held.get(key);
    const sinceMs = known?.number === number ? known.sinceMs : world.nowMs;
    held.set(key, { number, sinceMs });
    this.heldCount += 1;
    checks.holds(
      (viewHealth(record) === HEALTH.ORPHANED || record.health === HEALTH.MAINTENANCE) && told.isStale,
      "guard",
      () => `${what()} with ${key}, which is gone, and says that it is as good as any`,
    );
    const heldMs = world.nowMs - sinceMs;
    checks.holds(heldMs <= guardHoldMs + TICK_MS, "guard", () => `${what()} with ${key}, which is gone, for ${heldMs} ms`);
  }

  /** An answer has everything that every node knew by then. */
  #boundMs({ ageMs }: Told): number {
    return this.#parts.world.nowMs - ageMs - ROUNDING_MS;
  }

  /** A negative answer ends with its put: it is not given after that was told, nor beyond its time, unless the resolver is cut off. */
  negative(process: ResolverProcess, caller: Caller, name: InstanceName, told: Told): void {
    const { world, checks } = this.#parts;
    if (told.records.length > 0 || told.source !== "fetched") return;
    // For a caller that may not see the namespace nothing is fetched.
    if (!process.rooms.reads.verdict(caller, name.namespace).allowed) return;
    // What owners' rules hide looks absent.
    if (this.#parts.history.mayBeOwned(name.namespace)) return;
    const heardMs = process.fetched.get(nameText(name))?.heardMs ?? 0;
    const isFetchedSince = heardMs >= (process.putMs.get(nameText(name)) ?? 0);
    checks.holds(
      isFetchedSince,
      "negative",
      () => `${process.host.name} says that ${nameText(name)} does not exist, and was told of its put`,
    );
    if (process.rooms.machine.upstreams.isCutOff || world.nowMs - process.lastHeardMs > SILENT_MS) return;
    const sinceMs = world.nowMs - heardMs;
    checks.holds(
      sinceMs <= TTLS.negativeMs + 2 * SILENT_MS,
      "negative",
      () => `${process.host.name} says ${sinceMs} ms after it asked that ${nameText(name)} does not exist`,
    );
  }

  /** At a bookmark it answers every caller as its upstream would under the same policy, except for LOCAL and held entries (P17). */
  heard(process: ResolverProcess, sent: Sent, covered: NamespacePrefixes): void {
    const { checks, history } = this.#parts;
    const { rooms, shown, host } = process;
    for (const origin of rooms.replica.origins.values())
      for (const { key, scope } of origin.log.list())
        checks.holds(scope !== SCOPE.LOCAL, "P1", () => `${host.name} holds a LOCAL entry ${key}`);
    if (!this.isExact || shown === undefined || sent.epoch !== process.epoch || !process.isAtPlace) return;
    this.atPlaceCount += 1;
    for (const caller of CALLERS) {
      const sees = (namespace: string) => covered.covers(namespace) && history.maySee(sent.epoch, caller, namespace);
      const want = [...shown.values()].filter(({ namespace }) => sees(namespace)).map(({ line }) => line);
      const have = this.#page(process, caller).filter(({ namespace }) => covered.covers(namespace));
      this.#same(
        () => `${host.name} at a bookmark of ${rooms.machine.upstreams.current} to ${tenantOf(caller)}`,
        have.map((record) => lineOf(record.key, record)),
        want,
      );
    }
  }

  /** All that is followed, without what is held, as a watch shows it. */
  #page({ rooms }: ResolverProcess, caller: Caller): readonly CatalogRecord[] {
    const allowed = rooms.reads.allowed(caller);
    const all: CatalogRecord[] = [];
    for (const namespace of rooms.replica.lookup.namespaces.list()) {
      const page = rooms.reads.page(caller, { filter: { ...ANY, namespace }, limit: 1000, token: "", isExplained: false, salt: "sim" });
      if (allowed(namespace)) all.push(...page.records.filter(({ key }) => rooms.replica.lookup.find(key) !== undefined));
    }
    return all;
  }

  #same(what: () => string, have: readonly string[], want: readonly string[]): void {
    const [told, truth] = [have.toSorted().join("\n"), want.toSorted().join("\n")];
    this.#parts.checks.holds(told === truth, "P17", () => `${what()} shows\n${told}\nand should show\n${truth}`);
  }
}

/** The number of the deed that an entry is of. */
export function numberOf({ traits }: CatalogRecord): number {
  return Number(traits.tags.find((tag) => tag.startsWith("d"))?.slice(1) ?? 0);
}

export function tenantOf({ tenant }: Caller): string {
  return tenant === "" ? "a caller without a tenant" : `a caller of ${tenant}`;
}
