/** Random histories of a mesh with watches on it (P3). */
import assert from "node:assert/strict";
import fc from "fast-check";
import { BODY } from "../../src/catalog/record/record.ts";
import type { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import type { Time } from "../../src/lib/machine.ts";
import { type Step, steps, take, timeOf } from "./history.ts";
import { FabricComponent, isEndedBy, KEYS, NAMESPACES } from "./mesh.ts";
import { type Policy, Readers, Stream, WATCH_FILTERS } from "./stream.ts";

export interface Turn {
  readonly step: Step;
  /** What happens to a stream after the step. */
  readonly action: "nothing" | "pull" | "drain" | "reconnect" | "move" | "refilter" | "policy" | "farewell" | "learn";
  readonly stream: number;
  readonly pick: number;
}

const ACTIONS: readonly Turn["action"][] = [
  "nothing",
  "pull",
  "pull",
  "pull",
  "drain",
  "reconnect",
  "move",
  "refilter",
  "policy",
  "farewell",
  "learn",
];

const RESUMES: readonly Turn["action"][] = ["reconnect", "move", "refilter"];

/** `isUnbroken`: no stream ever goes on from a cursor. */
export function turns(max: number, { isUnbroken = false } = {}): fc.Arbitrary<readonly Turn[]> {
  const actions = ACTIONS.filter((action) => !isUnbroken || !RESUMES.includes(action));
  const turn = fc.record({
    step: steps({ max: 5, without: isUnbroken ? ["restart"] : [] }).map((list) => list[0]!),
    action: fc.constantFrom(...actions),
    stream: fc.nat(2),
    pick: fc.nat(199),
  });
  return fc.array(turn, { minLength: 1, maxLength: max, size: "max" });
}

/** Where the streams of a node read: at the node itself, or at copies of its replica. */
export interface Views {
  at(node: FabricComponent, pick: number): FabricComponent;
  ownerOf(view: FabricComponent): FabricComponent;
  /** Something happened at the nodes. Streams that read at a view that is gone go on at another one. */
  follow(streams: readonly Stream[], pick: number, time: Time): void;
  /** Called at the start, with what changes during the history. */
  begin?(world: WatchedWorld): void;
  /** Whether streams at a view may be told that they hold everything, when its node may tell them so. */
  isReady?(view: FabricComponent): boolean;
}

export interface WatchedWorld {
  readonly mesh: readonly FabricComponent[];
  readonly policy: Policy;
  /** Whether the node has caught up with its peers. */
  readonly isReady: (node: FabricComponent) => boolean;
}

const THEMSELVES: Views = { at: (node) => node, ownerOf: (view) => view, follow: () => {} };

/**
 * Plays a history, then lets everything come to rest: by then every stream must have said that it holds what the query says.
 * `pastTouches`: how many touches the nodes remember what was seen before.
 */
export function playWatches(
  history: readonly Turn[],
  filters: readonly number[],
  pastTouches?: number,
  views: Views = THEMSELVES,
): readonly Stream[] {
  const mesh = ["n1", "n2", "n3"].map((nodeId) => new FabricComponent(nodeId, pastTouches));
  const ready = [true, true, true];
  const policy: Policy = { denied: new Set(), epoch: 0 };
  const readers = new Readers(policy);
  views.begin?.({ mesh, policy, isReady: (node) => ready[mesh.indexOf(node)] === true });
  const streams = filters.map((filter, i) => new Stream(filter, views.at(mesh[i % 3]!, i), readers, policy, timeOf(0, 0)));
  history.forEach(({ step, action, stream: which, pick }, n) => {
    const time = timeOf(n, 0);
    const node = mesh[step.node]!;
    const origins = [...node.replica.origins.keys()];
    // Who forgets a node that lives may collect the tombstone that hid its entry, and then the entry is back.
    const living = new Set(mesh.map((one) => one.replica.self.id));
    // A node that has not caught up does not know what its tombstones hide, and would collect them too early.
    if (step.kind !== "collect" || ready[step.node] === true) {
      if (isLosing(mesh, step)) settle(mesh, n);
      take(mesh, step, n, { mayForget: (id) => !living.has(id) });
    }
    if (step.kind === "restart") {
      ready[step.node] = false;
      for (const s of streams) if (views.ownerOf(s.node) === node) s.reconnect(views.at(node, pick), time, "best");
    }
    const gone = origins.find((origin) => !node.replica.origins.has(origin));
    if (gone !== undefined) for (const s of streams) if (views.ownerOf(s.node) === node) s.allowOlder((_, originId) => originId === gone);
    views.follow(streams, pick, time);
    const stream = streams[which % streams.length]!;
    const isReady = ready[mesh.indexOf(views.ownerOf(stream.node))]! && views.isReady?.(stream.node) !== false;
    switch (action) {
      case "nothing":
        return;
      case "pull":
        stream.pull(time, 1 + pick * 5, isReady);
        return;
      case "drain":
        while (stream.pull(time, 100 + pick * 10, isReady));
        return;
      case "reconnect":
        stream.reconnect(views.at(views.ownerOf(stream.node), pick), time, pick % 2 === 0 ? "best" : "portable");
        return;
      case "move":
        stream.reconnect(views.at(mesh[pick % 3]!, pick), time, "portable");
        return;
      case "refilter":
        stream.refilter(pick % WATCH_FILTERS.length, time, pick % 2 === 0 ? "best" : "portable");
        return;
      case "policy": {
        const namespace = NAMESPACES[pick % NAMESPACES.length]!;
        if (!policy.denied.delete(namespace)) policy.denied.add(namespace);
        policy.epoch += 1;
        for (const s of streams) s.feed.refresh([namespace]);
        return;
      }
      case "farewell":
        stream.farewell(time, isReady);
        return;
      case "learn":
        learn(mesh[pick % 3]!, mesh[(pick + 1) % 3]!, n);
        views.follow(streams, 1, time);
        ready[pick % 3] = true;
        return;
    }
  });
  ready.fill(true);
  rest(mesh, streams, history.length, views);
  return streams;
}

/**
 * Whether the step can drop a record that unregistered an entry of another origin, while a node still holds that entry. In a real mesh, tombstones are dropped by age
 * only when all nodes are in step, and an origin is forgotten a day after its node died (semantics.md, Tombstones and Orphans). By then, every node has received the
 * tombstone, and the entry's own node has ended the entry.
 */
function isLosing(mesh: readonly FabricComponent[], { kind, node, detail }: Step): boolean {
  if (kind !== "collect" && kind !== "forget") return false;
  const { origins } = mesh[node]!.replica;
  const forgotten = [...origins.values()][detail % origins.size];
  const isDropped = ({ origin }: StoredRecord) => (kind === "collect" ? origins.get(origin.id) === origin : origin.id === forgotten?.id);
  return KEYS.some((key) => {
    const all = mesh.flatMap(({ replica }) => replica.records(key));
    const entries = all.filter(({ body }) => body === BODY.ENTRY);
    return all.some((stored) => isDropped(stored) && entries.some((entry) => isEndedBy(stored, entry)));
  });
}

/** All nodes exchange their records, and each ends its own entries that others unregistered. */
function settle(mesh: readonly FabricComponent[], n: number): void {
  const exchange = () => {
    for (const node of mesh) for (const peer of mesh) if (peer !== node) learn(node, peer, n);
  };
  exchange();
  for (const node of mesh) node.endHidden(timeOf(n, 0));
  exchange();
}

/** The node catches up with a peer. */
function learn(node: FabricComponent, peer: FabricComponent, n: number): void {
  for (const id of peer.replica.origins.keys()) node.copy(peer, id, timeOf(n, 0));
}

function rest(mesh: readonly FabricComponent[], streams: readonly Stream[], n: number, views: Views): void {
  for (const node of mesh) node.commit(timeOf(n, 0));
  for (let round = 0; round < 3; round++) {
    for (const node of mesh) for (const peer of mesh) if (peer !== node) learn(node, peer, n);
  }
  // Membership has noticed which generations are no more.
  const current = new Set(mesh.map((node) => node.replica.self.id));
  for (const node of mesh)
    for (const { id, life } of node.replica.origins.values()) if (life === "live" && !current.has(id)) node.setLife(id, "orphaned");
  // Long enough for everything that has a time limit.
  const times = [n, n + 10_000, n + 20_000];
  for (const time of times) views.follow(streams, 1, timeOf(time, 0));
  for (const stream of streams) {
    const before = stream.settledCount;
    for (const time of times) {
      let count = 0;
      while (stream.pull(timeOf(time, 0), 1000, views.isReady?.(stream.node) !== false)) {
        count += 1;
        assert(count < 20 * KEYS.length, "messages without end at rest");
      }
    }
    assert(stream.settledCount > before, "no END or bookmark at rest");
  }
}
