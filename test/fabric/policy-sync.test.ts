import fc from "fast-check";
import { expect, test } from "vitest";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { PolicyExchange } from "../../src/fabric/policy-sync.ts";
import type { PolicyFrame, PolicyHead } from "../../src/fabric/wire/messages.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { isNewer, NO_PLACE } from "../../src/policy/versions/version.ts";
import { runs } from "../fakes/effort.ts";
import { POLICY_OPTIONS } from "../fakes/options.ts";
import { type Version, version } from "../fakes/policy-versions.ts";

function timeOf(ms: number) {
  return { monoMs: ms, wallMs: 1_700_000_000_000 + ms };
}

/** A node that keeps what it is offered. */
class Node {
  readonly exchange: PolicyExchange;
  kept: Version | undefined;
  readonly events: string[] = [];
  readonly out: FabricOutput[] = [];
  adoptedCount = 0;

  constructor(options: Partial<typeof POLICY_OPTIONS> = {}) {
    this.exchange = new PolicyExchange({ ...POLICY_OPTIONS, ...options });
  }

  put(one: Version): void {
    this.kept = one;
    this.exchange.headChanged(one.head);
  }

  /** Carries out what the machine asked for. */
  work(): void {
    for (const output of this.out.splice(0)) {
      if (output.kind === "readPolicy") this.exchange.read(output.number, this.kept?.bytes);
      else if (output.kind === "adoptPolicy") {
        this.adoptedCount += 1;
        this.put(output);
      } else if (output.kind === "event") this.events.push(output.event.name);
    }
  }
}

/** Links node `i` and `j`; returns what carries one frame each way. */
function link(a: Node, b: Node, id: number, spoil: (frame: PolicyFrame) => PolicyFrame = (frame) => frame) {
  a.exchange.opened(id);
  b.exchange.opened(id);
  return (ms: number): boolean => {
    let isMoved = false;
    for (const [from, to] of [[a, b] as const, [b, a] as const]) {
      from.work();
      const hasWork = from.exchange.hasWork(id);
      const frame = from.exchange.next(id, timeOf(ms));
      expect(frame !== undefined).toBe(hasWork);
      if (frame === undefined) continue;
      isMoved = true;
      to.exchange.receive(id, from === b ? spoil(frame) : frame, timeOf(ms), to.out);
      to.work();
    }
    return isMoved;
  };
}

function settle(steps: readonly ((ms: number) => boolean)[], ms = 0): void {
  for (let round = 0; round < 1000; round++) {
    if (steps.map((step) => step(ms)).every((isMoved) => !isMoved)) return;
  }
  throw new Error("it does not come to rest");
}

test("who is behind gets the newest version in parts, checks it, and passes it on", () => {
  const [a, b, c] = [new Node({ partBytes: 500 }), new Node({ partBytes: 500 }), new Node()];
  const newest = version(3, "a", 40);
  a.put(newest);
  b.put(version(2, "b"));
  const steps = [link(a, b, 1), link(b, c, 2)];
  expect([b.exchange.isSettledWith(1), b.exchange.isSettledWith(2)]).toEqual([false, false]);
  settle(steps);
  for (const node of [b, c]) expect(node.kept).toMatchObject({ kind: "adoptPolicy", ...newest });
  expect([b.exchange.isSettledWith(1), b.exchange.isSettledWith(2), c.exchange.isSettledWith(2)]).toEqual([true, true, true]);
  expect([a.adoptedCount, a.exchange.refusedCount]).toEqual([0, 0]);
  a.put(version(4, "a"));
  settle(steps);
  expect(c.kept?.head.number).toBe(4);
});

test("of two versions of one number the greater stamp wins at both, whoever hears first", () => {
  const [a, b] = [new Node(), new Node()];
  a.put(version(5, "a", 1, 20_000));
  b.put(version(5, "b", 1, 10_000));
  settle([link(a, b, 1)]);
  expect([a.kept?.head.nodeId, b.kept?.head.nodeId]).toEqual(["a", "a"]);
  expect([a.events, b.events]).toEqual([["policy_conflict"], []]);
});

test("a peer that makes up heads does not fill log and audit", () => {
  const a = new Node();
  a.put(version(5, "z", 1, 20_000));
  const out: FabricOutput[] = [];
  a.exchange.opened(1);
  for (let n = 0; n < 100; n++) {
    const checksum = n.toString(16).padStart(64, "0");
    a.exchange.receive(1, { kind: "policyHead", head: { number: 5, hlc: 1, nodeId: "m", checksum } }, timeOf(0), out);
    a.exchange.receive(1, { kind: "policyHead", head: { number: 1e15, hlc: 1, nodeId: "m", checksum } }, timeOf(0), out);
  }
  expect(out.filter(({ kind }) => kind === "event")).toHaveLength(11);
});

test.each([
  { what: "changed bytes", spoil: (frame: PolicyFrame) => spoilt(frame, (part) => part.fill(7, 70, 80)) },
  { what: "another version", spoil: (frame: PolicyFrame) => (frame.kind === "policyPart" ? partOf(frame.head, version(9, "z")) : frame) },
  { what: "parts that do not follow", spoil: (frame: PolicyFrame) => (frame.kind === "policyPart" ? { ...frame, offset: 3 } : frame) },
  { what: "an impossible size", spoil: (frame: PolicyFrame) => (frame.kind === "policyPart" ? { ...frame, sizeBytes: 1e12 } : frame) },
])("a peer that sends $what is refused and counted, and another is asked", ({ spoil }) => {
  const [a, liar, honest] = [new Node(), new Node(), new Node()];
  const newest = version(3, "n", 40);
  liar.put(newest);
  const lying = link(a, liar, 1, spoil);
  settle([lying]);
  expect([a.kept, a.exchange.refusedCount, a.events]).toEqual([undefined, 1, ["policy_refused"]]);
  honest.put(newest);
  settle([lying, link(a, honest, 2)]);
  expect(a.kept).toMatchObject(newest);
});

function partOf(head: PolicyHead, { bytes }: Version): PolicyFrame {
  return { kind: "policyPart", head, part: bytes, offset: 0, sizeBytes: bytes.length };
}

function spoilt(frame: PolicyFrame, change: (part: Uint8Array) => void): PolicyFrame {
  if (frame.kind !== "policyPart") return frame;
  const copy = frame.part.slice();
  change(copy);
  return { ...frame, part: copy };
}

test("a peer that promises and does not send is given up after its time, and another asked", () => {
  const [a, honest] = [new Node(), new Node()];
  const newest = version(3);
  a.exchange.opened(1);
  a.exchange.receive(1, { kind: "policyHead", head: newest.head }, timeOf(0), a.out);
  expect([a.exchange.next(1, timeOf(0))?.kind, a.exchange.next(1, timeOf(0))?.kind]).toEqual(["policyHead", "policyWanted"]);
  honest.put(newest);
  const step = link(a, honest, 2);
  settle([step], 5);
  expect(a.exchange.nextDeadlineMs()).toBe(POLICY_OPTIONS.timeoutMs);
  a.exchange.look(timeOf(POLICY_OPTIONS.timeoutMs), a.out);
  settle([step], POLICY_OPTIONS.timeoutMs);
  expect(a.kept).toMatchObject(newest);
  expect(a.exchange.nextDeadlineMs()).toBe(NEVER);
});

test("a link that breaks in the middle loses nothing: the next one is asked", () => {
  const [a, b] = [new Node(), new Node({ partBytes: 100 })];
  b.put(version(3, "n", 40));
  const step = link(a, b, 1);
  for (let i = 0; i < 6; i++) step(0);
  expect(a.exchange.isSettledWith(1)).toBe(false);
  a.exchange.closed(1);
  b.exchange.closed(1);
  settle([link(a, b, 2)]);
  expect(a.kept?.head.number).toBe(3);
});

test("a version that cannot be put in force is not asked for again, at any link", () => {
  const a = new Node();
  const { head, bytes } = version(3);
  a.exchange.opened(1);
  a.exchange.receive(1, { kind: "policyHead", head }, timeOf(0), a.out);
  a.exchange.next(1, timeOf(0));
  a.exchange.next(1, timeOf(0));
  a.exchange.receive(1, { kind: "policyPart", head, part: bytes, offset: 0, sizeBytes: bytes.length }, timeOf(0), a.out);
  expect(a.out).toEqual([{ kind: "adoptPolicy", head, bytes, via: { nodeId: "", clusterId: "" } }]);
  a.out.length = 0;
  a.exchange.refused(head, "a newer format", a.out);
  a.exchange.opened(2);
  a.exchange.receive(2, { kind: "policyHead", head }, timeOf(0), a.out);
  expect([a.exchange.next(2, timeOf(0))?.kind, a.exchange.next(2, timeOf(0)), a.exchange.isSettledWith(2)]).toEqual([
    "policyHead",
    { kind: "policySettled", head },
    true,
  ]);
  expect(a.out).toMatchObject([{ kind: "event", event: { name: "policy_unusable" } }]);
});

test("a head that is none is refused", () => {
  const a = new Node();
  a.exchange.opened(1);
  for (const bad of [{ number: -1 }, { number: 1.5 }, { number: 2 ** 52 }, { hlc: -1 }, { checksum: "x" }, { nodeId: "n".repeat(65) }])
    a.exchange.receive(1, { kind: "policyHead", head: { ...version(1).head, ...bad } }, timeOf(0), a.out);
  expect([a.exchange.refusedCount, a.exchange.isSettledWith(1)]).toEqual([6, false]);
});

test("whatever the order of heads, applies and broken links, all nodes end with the greatest version", () => {
  const steps = fc.array(fc.record({ node: fc.nat(3), number: fc.integer({ min: 1, max: 4 }), cut: fc.nat(9), rounds: fc.nat(4) }), {
    minLength: 1,
    maxLength: 12,
  });
  fc.assert(
    fc.property(steps, (history) => {
      const nodes = [0, 1, 2, 3].map(() => new Node({ partBytes: 300 }));
      let nextId = 0;
      const pairs = [0, 1, 2].map((i) => ({ i, id: nextId, step: link(nodes[i]!, nodes[i + 1]!, nextId++) }));
      history.forEach(({ node, number, cut, rounds }, n) => {
        const to = nodes[node]!;
        const one = version(number, `n${node}`, 1 + (n % 3), 2048 * (n + 1));
        if (isNewer(one.head, to.kept?.head ?? NO_PLACE)) to.put(one);
        for (let i = 0; i < rounds; i++) for (const { step } of pairs) step(0);
        const pair = pairs[cut];
        if (pair === undefined) return;
        for (const end of [nodes[pair.i]!, nodes[pair.i + 1]!]) end.exchange.closed(pair.id);
        pair.id = nextId;
        pair.step = link(nodes[pair.i]!, nodes[pair.i + 1]!, nextId++);
      });
      settle(pairs.map(({ step }) => step));
      let best = NO_PLACE;
      for (const { kept } of nodes) if (kept !== undefined && isNewer(kept.head, best)) best = kept.head;
      for (const { kept, exchange } of nodes) {
        expect(kept?.head ?? NO_PLACE).toEqual(best);
        expect(exchange.refusedCount).toBe(0);
      }
      for (const { i, id } of pairs) for (const end of [nodes[i]!, nodes[i + 1]!]) expect(end.exchange.isSettledWith(id)).toBe(true);
    }),
    { numRuns: runs(200) },
  );
});

test("a newer version of a cluster that is not accepted is not fetched; it is told once, shown until there is a newer one", () => {
  const a = new Node();
  a.put(version(1));
  const foreign = { nodeId: "m", clusterId: "c2", source: "foreign" } as const;
  a.exchange.opened(1, foreign);
  a.exchange.opened(2, foreign);
  const { head } = version(7, "far");
  for (const id of [1, 2]) a.exchange.receive(id, { kind: "policyHead", head }, timeOf(0), a.out);
  a.work();
  expect([a.events, a.exchange.isSettledWith(1), a.adoptedCount]).toEqual([["policy_not_taken"], true, 0]);
  expect(a.exchange.notTaken).toMatchObject({
    head,
    peer: { clusterId: "c2" },
    why: "policy.accept_from does not list the peer's cluster c2",
  });
  for (const id of [1, 2]) expect(a.exchange.next(id, timeOf(0))?.kind).toBe("policyHead");
  for (const id of [1, 2]) expect(a.exchange.next(id, timeOf(0))).toEqual({ kind: "policySettled", head });
  a.put(version(8));
  expect(a.exchange.notTaken).toBeUndefined();
});

test("a version is handed on with the node it came through", () => {
  const a = new Node();
  const { head, bytes } = version(3);
  a.exchange.opened(1, { nodeId: "b", clusterId: "c2", source: "accepted" });
  a.exchange.receive(1, { kind: "policyHead", head }, timeOf(0), a.out);
  a.exchange.next(1, timeOf(0));
  a.exchange.next(1, timeOf(0));
  a.exchange.receive(1, { kind: "policyPart", head, part: bytes, offset: 0, sizeBytes: bytes.length }, timeOf(0), a.out);
  expect(a.out).toMatchObject([{ kind: "adoptPolicy", via: { nodeId: "b", clusterId: "c2" } }]);
});

test.each([
  { have: 5, offered: 1_000_005, isTaken: true },
  { have: 5, offered: 1_000_006, isTaken: false },
  { have: 5, offered: 100_000_000_000, isTaken: false },
  { have: 0, offered: 100_000_000_000, isTaken: true },
  { have: 0, offered: 2 ** 52 - 1, isTaken: true },
  { have: 0, offered: 2 ** 52, isTaken: false },
  { have: 2 ** 52 - 1, offered: 2 ** 52, isTaken: true },
])("where the newest is $have, number $offered is taken: $isTaken", ({ have, offered, isTaken }) => {
  const [a, b] = [new Node(), new Node()];
  if (have > 0) a.put(version(have, "n0", 1, 1));
  const newest = version(offered, "far", 1, 1);
  b.put(newest);
  const step = link(a, b, 1);
  for (let ms = 0; ms < 50; ms++) step(ms);
  expect(a.kept?.head.number).toBe(isTaken ? offered : have || undefined);
  expect([a.exchange.refusedCount, a.exchange.notTaken?.head.number]).toEqual(isTaken ? [0, undefined] : [1, offered]);
  // What was refused is in nobody's way: the next one is taken.
  if (isTaken || have === 0) return;
  b.exchange.headChanged(version(0).head);
  b.put(version(have + 1, "next"));
  for (let ms = 50; ms < 100; ms++) step(ms);
  expect(a.kept?.head.number).toBe(have + 1);
});
