/** Operations that are not forced leave a node in service, whoever acts at the same time, and however late or lost the answers are. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { PeerChange } from "../../../src/control/peers/peers.ts";
import { decodePeer, PEER_GUARD, PEERS } from "../../../src/control/peers/records.ts";
import type { StoreChanges } from "../../../src/store/control/store.ts";
import { runs } from "../../fakes/effort.ts";
import type { Fate } from "../../fakes/leader-lab.ts";
import { PeerLab, type PeerNode } from "../../fakes/peer-lab.ts";
import type { WatchPosition } from "../../fakes/shared-store.ts";

const RUNS = runs(480);
const ADMIN = "admin";

/** Checks the records after each change of the store. */
class GuardLab extends PeerLab {
  readonly names: string[] = [];
  /** Number of changes of the store after which no node was in service, because an administrator forced it. */
  forcedOutCount = 0;
  /** What the watches of nodes have read, and not yet reported. */
  readonly #late = new Map<PeerNode, { readonly step: StoreChanges; readonly position: WatchPosition }>();

  override report(): void {
    const active = this.names.filter((name) => (decodePeer(this.#valueOf(PEERS + name))?.desired ?? "active") === "active");
    if (this.names.length > 0 && active.length === 0) {
      const guard = new TextDecoder().decode(this.#valueOf(PEER_GUARD));
      if (!guard.includes(`"actor":"${ADMIN}"`)) throw new Error(`no node is in service after ${guard}`);
      this.forcedOutCount += 1;
    }
    super.report();
  }

  #valueOf(key: string): Uint8Array {
    return this.store.valueOf(key) ?? new TextEncoder().encode("{}");
  }

  /** From now on, the watch of the node reports only what `deliver` brings. */
  hold(node: PeerNode): void {
    node.deafTo.add(PEERS);
  }

  /** The watch that is held reads what is new, and reports it later. */
  read(node: PeerNode): void {
    const position = node.watches.get(PEERS);
    if (position === undefined || !node.deafTo.has(PEERS) || this.#late.has(node)) return;
    const found = this.store.read(PEERS, position);
    if (found !== undefined) this.#late.set(node, found);
  }

  /** The watch that is held reports what it has read, or goes on. */
  deliver(node: PeerNode): void {
    const late = this.#late.get(node);
    this.#late.delete(node);
    if (late === undefined) {
      node.deafTo.delete(PEERS);
      node.report();
      return;
    }
    node.watches.set(PEERS, late.position);
    node.input({ kind: "changed", prefix: PEERS, changes: late.step });
  }
}

type WriteKind = "cordon" | "drain" | "uncordon" | "label";

interface Act {
  readonly by: number;
  readonly on: number;
  readonly kind: WriteKind | "arrive" | "hold" | "read" | "deliver";
  readonly fate: Fate;
  readonly isForced: boolean;
}

const ACT = fc.record<Act>({
  by: fc.nat(2),
  on: fc.nat(4),
  kind: fc.constantFrom("cordon", "drain", "uncordon", "label", "arrive", "hold", "read", "deliver", "deliver"),
  fate: fc.constantFrom("done", "done", "done", "lost", "unanswered", "held", "late"),
  isForced: fc.nat(9).map((n) => n === 0),
});

function labOf(count: number): { readonly lab: GuardLab; readonly nodes: readonly PeerNode[] } {
  const lab = new GuardLab();
  const nodes = ["a", "b", "c", "d", "e"].slice(0, count).map((name) => lab.peerNode(name));
  lab.names.push(...nodes.map(({ nodeId }) => nodeId));
  return { lab, nodes };
}

function play(count: number, acts: readonly Act[]): GuardLab {
  const { lab, nodes } = labOf(count);
  for (const { by, on, kind, fate, isForced } of acts) {
    const [node, target] = [nodes[by % count], nodes[on % count]];
    if (node === undefined || target === undefined) continue;
    node.fateOf = () => fate;
    if (kind === "arrive") node.arrive();
    else if (kind === "hold" || kind === "read" || kind === "deliver") lab[kind](node);
    else change({ kind, isForced }, node, target, nodes);
  }
  return lab;
}

/** Makes a change as a node does: it counts the other nodes that it takes for active. All are alive and serve. */
function change({ kind, isForced }: { kind: WriteKind; isForced: boolean }, by: PeerNode, on: PeerNode, nodes: readonly PeerNode[]) {
  const isActive = ({ nodeId }: PeerNode) => (by.peers.record(nodeId)?.value?.desired ?? "active") === "active";
  const readyCount = nodes.filter((other) => other !== on && isActive(other)).length;
  const changes: Record<WriteKind, PeerChange> = {
    cordon: { kind: "cordon", isForced, deadlineMs: 0, readyCount },
    drain: { kind: "drain", isForced, deadlineMs: 1000, readyCount },
    uncordon: { kind: "uncordon" },
    label: { kind: "label", labels: { rack: "7" }, removed: [] },
  };
  return by.change(on.nodeId, changes[kind], { actor: isForced ? ADMIN : "ann" });
}

test("whatever several nodes do at the same time, some node stays in service unless an administrator forces it", () => {
  let forcedOutCount = 0;
  fc.assert(
    fc.property(fc.integer({ min: 3, max: 5 }), fc.array(ACT, { minLength: 20, maxLength: 60 }), (count, acts) => {
      forcedOutCount += play(count, acts).forcedOutCount;
    }),
    { numRuns: RUNS },
  );
  expect(forcedOutCount, "the last node was taken out by force").toBeGreaterThan(0);
});

test("a watch that is behind the answers does not bring back a node that is no longer in service", () => {
  const { lab, nodes } = labOf(3);
  const [a, b, c] = nodes;
  if (a === undefined || b === undefined || c === undefined) throw new Error("no nodes");
  const act = (kind: WriteKind, on: PeerNode) => change({ kind, isForced: false }, a, on, nodes);
  act("cordon", b);
  lab.hold(a);
  act("uncordon", b);
  lab.read(a);
  act("cordon", b);
  lab.deliver(a);
  expect(a.peers.record("b")?.value?.desired).toBe("cordoned");
  expect([act("cordon", c), act("cordon", a)?.reason]).toEqual([undefined, "last_ready_node"]);
});
