/**
 * A client's read at a node, through the code that all listeners use: page by page, and by name as a resolver does. The answer is checked against
 * a naive model of what the node holds and what it promised clients.
 */

import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { matches } from "../../src/catalog/query/filter.ts";
import { BODY, type CatalogRecord, KIND, keyParts } from "../../src/catalog/record/record.ts";
import { type Origin, settledOf } from "../../src/catalog/record/stored-record.ts";
import { NO_REVISION } from "../../src/catalog/replica/past-views.ts";
import { healthRank } from "../../src/discovery/candidates.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import type { NamespaceRule } from "../../src/policy/set/rules.ts";
import { lineOf } from "../fakes/model.ts";
import { FILTERS } from "../fakes/stream.ts";
import type { Checks } from "./checks.ts";
import { type Client, NAMESPACES } from "./clients.ts";
import { mayHold, relationOf } from "./invariants.ts";
import type { Model } from "./model.ts";
import type { Place } from "./sim-copy.ts";
import { type SimNode, type SimProcess, WALL_START_MS } from "./sim-node.ts";
import type { World } from "./world.ts";

export interface ReadParts {
  readonly world: World;
  readonly nodes: readonly SimNode[];
  readonly clients: readonly Client[];
  readonly model: Model;
  readonly checks: Checks;
}

/** An answer, as the services give it. */
interface Answer {
  readonly servedBy: string;
  readonly revision: number;
  readonly ageMs: number;
  readonly records: readonly CatalogRecord[];
}

/** An age was computed a moment before. Nothing is older than it says, apart from the rounding of numbers. */
const ROUNDING_MS = 1;
/** A node that said goodbye is assumed to write nothing for this time, unless it is heard of. */
const GONE_MS = 60_000;

export class SimReads {
  readonly #parts: ReadParts;
  /** The highest revision that each place told. */
  readonly #told = new WeakMap<Place, number>();
  /** The nodes that a process has listed, each with the time from which their writes count: when it heard of them, if it was ready by then. */
  readonly #known = new WeakMap<SimProcess, Map<SimProcess, number>>();
  count = 0;

  constructor(parts: ReadParts) {
    this.#parts = parts;
  }

  /** `salt` chooses the filter and the page size. */
  read(index: number, salt: number): void {
    const node = this.#parts.nodes[index];
    node?.enqueue(() => {
      const { process } = node;
      if (process === undefined || process.isStopped) return;
      this.count += 1;
      this.#checkPage(process.place, salt);
      process.copy?.refresh();
      if (process.copy?.isWhole === true) this.#checkPage(process.copy, salt);
      if (process.reads.isSettled) this.#checkPromises(process);
    });
  }

  #ask(place: Place, filter: number, limit: number): Answer {
    const { reads, replica, process } = place;
    const records: CatalogRecord[] = [];
    let token = "";
    do {
      const request = { filter: FILTERS[filter] ?? FILTERS[0]!, limit, token, isExplained: false, salt: "read" };
      const page = reads.page(callerAt(place), request);
      records.push(...page.records);
      token = page.nextToken;
    } while (token !== "");
    const ageMs = process.machine.ageMs(process.time());
    return { servedBy: reads.node.nodeId, revision: replica.revision, ageMs, records };
  }

  #checkPage(place: Place, salt: number): void {
    const { checks } = this.#parts;
    const { node, reads, process } = place;
    const filter = salt % FILTERS.length;
    const answer = this.#ask(place, filter, 1 + (salt % 7));
    const what = `read at ${place.name}, filter ${filter}`;
    checks.holds(answer.servedBy === node.options.nodeId, "read", () => `${what}: served by ${answer.servedBy}`);
    const before = this.#told.get(place) ?? 0;
    checks.holds(answer.revision >= before, "read", () => `${what}: revision ${answer.revision} after ${before}`);
    this.#told.set(place, answer.revision);
    const isOrdered = answer.records.every(({ key }, i) => i === 0 || (answer.records[i - 1]?.key ?? "") < key);
    checks.holds(isOrdered, "read", () => `${what}: not in the order of keys`);
    if (!reads.isSettled) return this.#checkBetween(place, answer, what);
    const visible = visibleAt(place).filter((record) => isSettled(process, record));
    const wanted = visible.filter((record) => matches(FILTERS[filter] ?? FILTERS[0]!, record, reads.node));
    this.#same(
      `${what}: pages`,
      answer.records.filter((record) => isSettled(process, record)),
      wanted,
    );
    const namespace = NAMESPACES[salt % NAMESPACES.length] ?? "svc";
    const name = `n${salt % 5}`;
    const sampling = { form: "spread", at: 0, rank: healthRank, ideal: 0, fit: 0, wanted: 1 } as const;
    const { found } = reads.find(callerAt(place), { kind: KIND.SERVICE, namespace, name }, { sampling, read: (record) => record });
    const named = visible.filter((record) => record.namespace === namespace && record.name === name && record.kind === KIND.SERVICE);
    this.#same(
      `${what}: by name ${namespace} ${name}`,
      found.filter((record) => isSettled(process, record)),
      named,
    );
    if (place === process.place) this.#checkAge(process, answer);
  }

  /** While a policy changes, a viewer sees only what both policies show it. */
  #checkBetween(place: Place, { records }: Answer, what: string): void {
    const leaked = records.filter((record) => !isShown(place, record)).map(({ key }) => key.replaceAll("\0", "|"));
    this.#parts.checks.holds(leaked.length === 0, "read", () => `${what}: told of ${leaked.join(", ")}, which the new policy hides`);
  }

  #same(what: string, have: readonly CatalogRecord[], want: readonly CatalogRecord[]): void {
    const lines = (records: readonly CatalogRecord[]) => records.map((record) => lineOf(record.key, record)).toSorted();
    const [told, true_] = [lines(have).join("\n"), lines(want).join("\n")];
    this.#parts.checks.holds(told === true_, "read", () => `${what} give\n${told}\nand the node holds\n${true_}`);
  }

  /** A node that is not ready tells the age of what it started with. A ready one never tells an age below that of what it lacks. */
  #checkAge(process: SimProcess, { ageMs }: Answer): void {
    const { world, checks } = this.#parts;
    const { node, warm, bootMs } = process;
    this.#noteKnown(process);
    if (!process.machine.readiness.isReady) {
      // It is not known when the records that an empty node lacks were written.
      const leastMs = warm === undefined ? world.nowMs : process.startAgeMs + world.nowMs - bootMs;
      checks.holds(ageMs >= leastMs - 1, "age", () => `${node.name} is not ready for ${leastMs} ms and says that its age is ${ageMs} ms`);
      return;
    }
    this.#checkMissing(process, ageMs);
    this.#checkListed(process, ageMs);
    this.#checkUnreachable(process);
  }

  /** A running peer that is no longer listed and has entries that this node lacks is listed as unreachable while the cluster remembers it. */
  #checkUnreachable(process: SimProcess): void {
    const { world, checks, nodes } = this.#parts;
    const { node, fabric } = process;
    const remembered = new Set(fabric.lifecycle.roster.list());
    const unreachable = fabric.unreachable(process.time());
    for (const peer of this.#noteKnown(process).keys()) {
      const { name, options, index } = peer.node;
      if (nodes[index]?.process !== peer || peer.isStopped || options.clusterId !== node.options.clusterId) continue;
      if (process.lists(name) || !remembered.has(name) || isTakenForGone(process, peer, world.nowMs)) continue;
      if (this.#lacksSinceMs(process, peer) >= world.nowMs || checks.isLost(peer.replica.self.id)) continue;
      const isNamed = unreachable !== undefined && (unreachable.nodeIds.includes(name) || unreachable.count > unreachable.nodeIds.length);
      checks.holds(
        isNamed,
        "unreachable",
        () => `${node.name} lacks what ${name} has, and names ${String(unreachable?.nodeIds)} as unreachable`,
      );
    }
  }

  /**
   * Checks the age against the peers that are listed, whatever the faults: what such a peer has is lacked since it was written, or since this node,
   * being ready, heard of the peer. A peer that said goodbye may still be listed when it is back and has not been heard of.
   */
  #checkListed(process: SimProcess, ageMs: number): void {
    const { world, checks, nodes } = this.#parts;
    const { node } = process;
    for (const [peer, sinceMs] of this.#noteKnown(process)) {
      const { name, options } = peer.node;
      if (nodes[peer.node.index]?.process !== peer || options.clusterId !== node.options.clusterId || !process.lists(name)) continue;
      if (isTakenForGone(process, peer, world.nowMs)) continue;
      const lackedMs = world.nowMs - Math.max(this.#lacksSinceMs(process, peer), sinceMs);
      checks.holds(
        lackedMs <= ageMs + ROUNDING_MS || checks.isLost(peer.replica.self.id),
        "age",
        () => `${node.name} says that its age is ${ageMs} ms and lacks what ${name} has had for ${lackedMs} ms`,
      );
    }
  }

  /** A node that misses more than half of its cluster, or the only other node, is as old as what those have written since, because it is probably cut off. */
  #checkMissing(process: SimProcess, ageMs: number): void {
    const { world, checks, nodes } = this.#parts;
    const { fabric, node } = process;
    // Where there are more nodes than links, a node knows the ones without a link by heartbeats, if any came.
    if (nodes.length > node.options.fabric.links.maxLinks + 1) return;
    const known = this.#noteKnown(process);
    let presentCount = 1;
    const missing: SimProcess[] = [];
    for (const { process: peer, name, options } of nodes) {
      if (peer === process || options.clusterId !== node.options.clusterId) continue;
      if (process.lists(name)) {
        presentCount += 1;
      } else if (peer !== undefined && !peer.isStopped && known.has(peer) && fabric.membership.find(name)?.status === "dead") {
        if (!isTakenForGone(process, peer, world.nowMs)) missing.push(peer);
      }
    }
    if (missing.length <= presentCount && !(presentCount === 1 && missing.length > 0)) return;
    for (const peer of missing) {
      // A node that it heard of when it was ready counted as a new one.
      const lackedMs = world.nowMs - Math.max(this.#lacksSinceMs(process, peer), known.get(peer) ?? 0);
      checks.holds(
        lackedMs <= ageMs + ROUNDING_MS || checks.isLost(peer.replica.self.id),
        "age",
        () => `${node.name} misses most, says that its age is ${ageMs} ms and lacks what ${peer.node.name} has had for ${lackedMs} ms`,
      );
    }
  }

  #noteKnown(process: SimProcess): ReadonlyMap<SimProcess, number> {
    const { world, nodes } = this.#parts;
    const known = this.#known.get(process) ?? new Map<SimProcess, number>();
    this.#known.set(process, known);
    for (const { process: peer, name } of nodes)
      if (peer !== undefined && !known.has(peer) && process.lists(name)) known.set(peer, process.isReady ? world.nowMs : 0);
    return known;
  }

  /**
   * When the oldest of what a peer said itself that this node may hold and does not have was made durable; now when it has all. What the peer said of a
   * key before its newest record is lacked, too, where neither is here; a record that is here is not, though others of its time were left out of a frame.
   */
  #lacksSinceMs(process: SimProcess, peer: SimProcess): number {
    const { checks, world } = this.#parts;
    const { self } = peer.replica;
    const known = process.replica.origins.get(self.id);
    const relation = relationOf(process.node, peer.node);
    let sinceMs = world.nowMs;
    for (const record of self.log.list()) {
      if (!mayHold(record.body === BODY.ENTRY ? record.scope : record.reach, relation)) continue;
      // The records of a partial origin are checked too: it lacks what was refused, not what it held before.
      const wholeSeq = known === undefined || isRefused(process, record, known) ? 0 : (known.unsettled?.from ?? known.through);
      const held = process.replica.records(record.key).find(({ origin }) => origin === known);
      const hasSeq = Math.max(wholeSeq, held?.seq ?? 0);
      const lacked = checks.said(self.id, record.key).find(({ seq, reach }) => seq > hasSeq && mayHold(reach, relation));
      if (record.seq > hasSeq && lacked !== undefined) sinceMs = Math.min(sinceMs, lacked.atMs);
    }
    return sinceMs;
  }

  /** Read your writes: what this node acknowledged is seen here, unless a newer record has the key or policy hides it. */
  #checkPromises(process: SimProcess): void {
    const { clients, model, checks } = this.#parts;
    const { records } = this.#ask(process.place, 0, 1000);
    const seen = new Map(records.map((record) => [record.key, record]));
    for (const client of clients) {
      const { key } = client;
      const promised = key === undefined ? undefined : model.promised.get(key);
      if (key === undefined || promised === undefined || promised.originId !== process.replica.self.id) continue;
      // A lease that is renewed after a backup was restored is promised again, although its record is lost.
      if (promised.node !== process.node.index || checks.hasLostOf(process.node.name)) continue;
      const shown = seen.get(key);
      const held = process.replica.records(key);
      const what = () => `${process.node.name} promised client ${client.index} ${promised.state} ${key} stamped ${promised.hlc}`;
      if (promised.state === "gone") {
        const isBack = shown !== undefined && shown.hlc < promised.hlc && shown.origin.life === "live";
        const isForgotten = !held.some(({ origin, body }) => origin === process.replica.self && body !== BODY.ENTRY);
        checks.holds(!isBack || isForgotten, "own write", () => `${what()}, and shows ${shown?.origin.id}:${shown?.seq}`);
        continue;
      }
      const own = held.find(({ origin }) => origin === process.replica.self);
      const isHidden = own !== undefined && !isVisible(process.place, own);
      const isEnded = own !== undefined && own.body !== BODY.ENTRY && own.hlc >= promised.hlc;
      const isSuperseded = isEnded || held.some(({ hlc, unregisteredHlc = 0 }) => Math.max(hlc, unregisteredHlc) > promised.hlc);
      const isSeen = shown !== undefined && shown.hlc >= promised.hlc;
      // A node without room may have lost the end and what it ended by now.
      const isOver = model.ended(key).some(({ originId, seq, hlc }) => hlc > promised.hlc && hasTold(process, originId, seq));
      checks.holds(
        isSeen || isHidden || isSuperseded || isOver,
        "own write",
        () => `${what()}, and shows ${shown === undefined ? "nothing" : `${shown.origin.id}:${shown.seq} stamped ${shown.hlc}`}`,
      );
    }
  }
}

/** Whether the last start of a node that is known here said goodbye here at most a minute ago, and nothing was heard of a later one. */
function isTakenForGone({ fabric, goodbyes }: SimProcess, { node, bootMs, bootSkewMs }: SimProcess, nowMs: number): boolean {
  const { incarnation = 0 } = fabric.membership.find(node.name) ?? {};
  const isHeard = incarnation >= Math.floor((WALL_START_MS + bootMs + bootSkewMs) / 1000);
  return !isHeard && nowMs - (goodbyes.get(node.name) ?? Number.NEGATIVE_INFINITY) < GONE_MS;
}

/** Whether a node has heard what an origin said under a number. */
function hasTold({ replica }: SimProcess, originId: string, seq: number): boolean {
  const origin = replica.origins.get(originId);
  return origin !== undefined && settledOf(origin) >= seq;
}

/** Whether a record of a partial origin is missing here: it is not held, and was not ended since. */
function isRefused({ replica }: SimProcess, { key, seq, body }: CatalogRecord, origin: Origin): boolean {
  if (origin.lacks === undefined || body !== BODY.ENTRY) return false;
  return !replica.records(key).some((held) => held.origin === origin && held.seq >= seq);
}

/** What a reader at the node should be told, computed from the logs of all origins. */
function visibleAt(place: Place): readonly CatalogRecord[] {
  return ownedAt(place).filter((record) => isShown(place, record));
}

/** What is seen at the node whoever asks, computed in the same way: no viewer's rule hides anything. */
export function ownedAt(place: Place): readonly CatalogRecord[] {
  const byKey = new Map<string, CatalogRecord[]>();
  for (const origin of place.replica.origins.values())
    for (const record of origin.log.list()) {
      const list = byKey.get(record.key);
      if (list === undefined) byKey.set(record.key, [record]);
      else list.push(record);
    }
  return [...byKey.values()].flatMap((records) => {
    let endedHlc = 0;
    for (const { reach, body, hlc, unregisteredHlc } of records)
      if (reach !== SCOPE.LOCAL) endedHlc = Math.max(endedHlc, body === BODY.UNREGISTERED ? hlc : (unregisteredHlc ?? 0));
    let best: CatalogRecord | undefined;
    for (const record of records) {
      if (record.body !== BODY.ENTRY || isAway(record) || record.hlc < endedHlc || !isOwned(place, record)) continue;
      if (records.some((later) => isReplaced(record, later))) continue;
      const isBetter = best === undefined || record.hlc > best.hlc || (record.hlc === best.hlc && record.origin.id > best.origin.id);
      if (isBetter) best = record;
    }
    return best === undefined ? [] : [best];
  });
}

/** Whether the node of a record went on in another generation, and ended there what it had taken over. */
function isReplaced({ origin, hlc }: CatalogRecord, later: CatalogRecord): boolean {
  const { key, origin: by, body, reach } = later;
  if (origin.life === "live" || by.nodeId !== origin.nodeId || by.generation <= origin.generation) return false;
  const isOfKeysCluster = by.clusterId === undefined || by.clusterId === "" || by.clusterId === keyParts(key).clusterId;
  return body !== BODY.ENTRY && reach !== SCOPE.LOCAL && later.hlc >= hlc && isOfKeysCluster;
}

/** A key with a record that is still to be touched or dropped is seen as before until then (semantics.md, Watch 2 and Orphans). */
function isSettled({ replica, fabric }: SimProcess, { key }: CatalogRecord): boolean {
  if (!fabric.lifecycle.isSettling) return true;
  const records = replica.records(key);
  return (
    replica.sweeps.pendingFor(records[0]).since === NO_REVISION && records.every(({ origin }) => replica.origins.get(origin.id) === origin)
  );
}

/** Whether a record is hidden: its node is away for too long, or a mark hides it. */
function isAway({ origin, seq }: CatalogRecord): boolean {
  return origin.life === "hidden" || seq <= (origin.markedSeq ?? 0);
}

function isVisible(place: Place, record: CatalogRecord): boolean {
  return isOwned(place, record) && isShown(place, record);
}

/** The owner rule: others may have local endpoints of their own cluster. */
function isOwned(place: Place, { namespace, scope, traits }: CatalogRecord): boolean {
  const owners = ruleAt(place, namespace)?.owners ?? [];
  const isOwner = owners.length === 0 || owners.includes(traits.clusterId) || owners.includes(traits.region);
  return isOwner || (scope <= SCOPE.ZONE && traits.clusterId === place.node.options.clusterId);
}

/** The visibility rule, for a caller of the node's cluster without a tenant. */
function isShown(place: Place, { namespace }: CatalogRecord): boolean {
  const { visibility = [], visibilityTenants = [] } = ruleAt(place, namespace) ?? {};
  return (visibility.length === 0 && visibilityTenants.length === 0) || visibility.includes(place.node.options.clusterId);
}

/** The rule with the longest pattern. The simulator's rules have no `.*`, and what no rule names is allowed. */
function ruleAt(place: Place, namespace: string): NamespaceRule | undefined {
  const rules = place.policies.policy.set?.rules ?? [];
  const fitting = rules.filter(({ pattern }) => namespace === pattern || namespace.startsWith(`${pattern}.`));
  return fitting.toSorted((a, b) => b.pattern.length - a.pattern.length)[0];
}

function callerAt({ node }: Place) {
  return anonymousCaller(node.options.clusterId, "127.0.0.1", []);
}
