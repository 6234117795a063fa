/** No record is given to a peer that does not have the policy of who gives it, and may still get it: the policy may hide what the record tells. */
import { describe, expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { PolicyExchange } from "../../src/fabric/policy-sync.ts";
import type { PolicyHead } from "../../src/fabric/wire/messages.ts";
import { NO_PLACE } from "../../src/policy/versions/version.ts";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";
import { FABRIC_OPTIONS, POLICY_OPTIONS } from "../fakes/options.ts";
import { version } from "../fakes/policy-versions.ts";

type PolicyPeer = NonNullable<Parameters<PolicyExchange["opened"]>[1]>;

/** A cluster in a full mesh, or above `maxLinks` in a looser one. */
function start(world: FabricWorld, count: number, maxLinks = 20): readonly WorldNode[] {
  const nodes = Array.from({ length: count }, (_, i) => {
    const node = world.start({
      nodeId: `n${i}`,
      seeds: i === 0 ? [] : ["n0:1"],
      options: { links: { ...FABRIC_OPTIONS.links, maxLinks } },
    });
    world.run(500);
    return node;
  });
  world.runUntil(
    () => nodes.every((node) => node.upLinks().length >= Math.min(maxLinks, count - 1) && node.fabric.readiness.isReady),
    30_000,
  );
  world.run(10_000);
  return nodes;
}

describe("in a cluster", () => {
  test.each([
    { what: "in a full mesh", count: 4, maxLinks: 20 },
    { what: "by way of others, above max_links", count: 8, maxLinks: 2 },
  ])("who applies a policy and then registers shows the entry nowhere before the policy is there, $what", ({ count, maxLinks }) => {
    const world = new FabricWorld(`policy first ${count}`);
    const nodes = start(world, count, maxLinks);
    world.adoptMs = 700;
    for (let round = 1; round <= 5; round++) {
      const writer = nodes[round % count];
      writer?.keepPolicy(version(round, writer.spec.nodeId));
      writer?.put(`web${round}`);
      const lasted = world.runUntil(() => {
        for (const { policy, view } of nodes.map((node) => ({ policy: node.policy, view: node.view() })))
          expect(view.filter((key) => key.includes(`web${round}`)).length === 0 || policy?.head.number === round).toBe(true);
        return nodes.every((node) => node.view().some((key) => key.includes(`web${round}`)));
      }, 30_000);
      expect(lasted).toBeGreaterThanOrEqual(700);
    }
  });

  test("a node that was away gets the policy before what was registered meanwhile", () => {
    const world = new FabricWorld();
    const [a, b] = start(world, 2);
    if (a === undefined || b === undefined) throw new Error("two nodes");
    world.kill(b);
    a.keepPolicy(version(1, "n0"));
    a.put("secret");
    world.run(5000);
    world.adoptMs = 2000;
    const back = world.start({ nodeId: "n1", seeds: ["n0:1"], disk: b, generation: 2 });
    world.runUntil(() => {
      expect(back.view().length === 0 || back.policy !== undefined).toBe(true);
      return back.view().length === 1;
    }, 30_000);
  });

  test("a leaver says goodbye when its peers have the policy and what was registered under it", () => {
    const world = new FabricWorld();
    const [a, b] = start(world, 2);
    world.adoptMs = 1000;
    a?.keepPolicy(version(1, "n0"));
    a?.put("web");
    if (a !== undefined) world.input(a, { kind: "stop", reason: "restart" });
    world.runUntil(() => b?.view().length === 1, 5000);
    expect(b?.policy?.head.number).toBe(1);
  });

  test("a leaver hands over to a peer when that has the policy and what was registered under it", () => {
    const world = new FabricWorld();
    const [a, b] = start(world, 2);
    if (a === undefined || b === undefined) throw new Error("two nodes");
    world.adoptMs = 1000;
    a.keepPolicy(version(1, "n0"));
    a.put("web");
    world.input(a, { kind: "leaving" });
    world.input(a, { kind: "offer", nodeId: "n1", seqs: [a.replica.lastSeq] });
    const offered = () => b.outputs.some(({ kind }) => kind === "offered");
    world.runUntil(() => b.view().length === 1 || offered(), 5000);
    expect([b.policy?.head.number, b.view().length]).toEqual([1, 1]);
    world.runUntil(offered, 5000);
  });

  test("a stop does not wait for a peer that never gets the policy", () => {
    const world = new FabricWorld();
    const [a] = start(world, 2);
    world.adoptMs = 1e9;
    a?.keepPolicy(version(1, "n0"));
    a?.put("web");
    world.run(100);
    if (a !== undefined) world.input(a, { kind: "stop", reason: "restart" });
    expect(world.runUntil(() => a?.fabric.isStopped(world.time()) === true, 30_000)).toBeLessThanOrEqual(2500);
  });

  test.each([300, 1000, 5000])("a peer that never gets the policy is told goodbye by a stop of %i ms, too", (withinMs) => {
    const world = new FabricWorld();
    const [a] = start(world, 2);
    world.adoptMs = 1e9;
    a?.keepPolicy(version(1, "n0"));
    a?.put("web");
    world.run(100);
    if (a !== undefined) world.input(a, { kind: "stop", reason: "restart", withinMs });
    world.run(withinMs);
    expect(a?.fabric.isStopped(world.time())).toBe(true);
  });

  test("a cluster that does not take the policy gets the records all the same", () => {
    const world = new FabricWorld();
    const a = world.start({ nodeId: "n0", clusterId: "a" });
    const d = world.start({ nodeId: "d0", clusterId: "d", seeds: ["n0:1"] });
    world.runUntil(() => d.upLinks().length === 1 && a.fabric.readiness.isReady && d.fabric.readiness.isReady, 30_000);
    a.keepPolicy(version(1, "n0"));
    a.put("web", SCOPE.REGION);
    world.run(1000);
    expect([d.view().length, d.policy]).toEqual([1, undefined]);
  });
});

describe("who does not take a version", () => {
  const accepted: PolicyPeer = { nodeId: "a", clusterId: "c1", source: "accepted" };
  const at = (ms: number) => ({ monoMs: ms, wallMs: 1_700_000_000_000 + ms });

  /** The giver of a version and a receiver whose link to it is 1. */
  class Pair {
    readonly giver = new PolicyExchange(POLICY_OPTIONS);
    readonly taker = new PolicyExchange(POLICY_OPTIONS);
    readonly out: FabricOutput[] = [];
    ms = 0;

    constructor(head: PolicyHead, source: PolicyPeer["source"] = "accepted") {
      this.giver.opened(1, { ...accepted, nodeId: "b" });
      this.taker.opened(1, { ...accepted, source });
      this.giver.headChanged(head);
    }

    /** Carries frames both ways until there are none; the giver never sends a part. */
    settle(): this {
      for (let isMoved = true; isMoved; ) {
        isMoved = false;
        for (const [from, to] of [[this.giver, this.taker] as const, [this.taker, this.giver] as const]) {
          const frame = from.next(1, at(this.ms));
          if (frame === undefined) continue;
          isMoved = true;
          to.receive(1, frame, at(this.ms), this.out);
        }
      }
      return this;
    }

    /** The taker waits in vain for what it asked for. */
    waitInVain(): this {
      this.ms += POLICY_OPTIONS.timeoutMs;
      this.taker.look(at(this.ms), this.out);
      return this.settle();
    }
  }

  const { head, bytes } = version(3, "n");

  test("nobody is behind a node without a policy, and everybody behind one that has it until they say what they have", () => {
    const pair = new Pair(NO_PLACE);
    expect(pair.giver.isBehind(1)).toBe(false);
    pair.giver.headChanged(head);
    expect(pair.giver.isBehind(1)).toBe(true);
    pair.taker.headChanged(head);
    pair.settle();
    expect([pair.giver.isBehind(1), pair.taker.isBehind(1)]).toEqual([false, false]);
    pair.giver.headChanged(version(4, "n").head);
    expect([pair.giver.isBehind(1), pair.taker.isBehind(1)]).toEqual([true, false]);
  });

  test.each(["foreign", "open"] as const)("says so at once where it takes none of its cluster (%s)", (source) => {
    const pair = new Pair(head, source).settle();
    expect([pair.giver.isBehind(1), pair.taker.hasWork(1)]).toEqual([false, false]);
    pair.giver.headChanged(version(4, "n").head);
    expect(pair.giver.isBehind(1)).toBe(true);
    expect(pair.settle().giver.isBehind(1)).toBe(false);
  });

  test("says so when the version cannot be put in force there", () => {
    const pair = new Pair(head).settle();
    pair.giver.read(3, bytes);
    expect(pair.settle().giver.isBehind(1)).toBe(true);
    expect(pair.out.at(-1)?.kind).toBe("adoptPolicy");
    pair.taker.refused(head, "a newer format", pair.out);
    expect(pair.settle().giver.isBehind(1)).toBe(false);
  });

  test("says so when its number is too far above the own one", () => {
    const pair = new Pair(version(2_000_000, "n").head);
    pair.taker.headChanged(version(1, "n").head);
    expect(pair.settle().giver.isBehind(1)).toBe(false);
  });

  test("asks again and again where it does not come in time, and never says that it does not take it: it may hide what the peer has", () => {
    const pair = new Pair(head).settle();
    for (let n = 0; n < 10; n++) expect(pair.waitInVain().giver.isBehind(1)).toBe(true);
    expect(pair.taker.refusedCount).toBe(0);
    pair.giver.read(3, bytes);
    pair.settle();
    expect(pair.out.at(-1)).toMatchObject({ kind: "adoptPolicy", head });
  });

  test("says nothing after a transfer that was no good, also when nobody else brings it", () => {
    const pair = new Pair(head).settle();
    pair.taker.opened(2, { ...accepted, nodeId: "c" });
    pair.taker.receive(2, { kind: "policyHead", head }, at(0), pair.out);
    pair.taker.receive(1, { kind: "policyPart", head, part: Uint8Array.of(1, 2, 3), offset: 0, sizeBytes: 3 }, at(0), pair.out);
    expect([pair.settle().giver.isBehind(1), pair.taker.next(2, at(0))?.kind, pair.taker.next(2, at(0))?.kind]).toEqual([
      true,
      "policyHead",
      "policyWanted",
    ]);
    pair.taker.closed(2);
    expect(pair.settle().giver.isBehind(1)).toBe(true);
  });

  test.each([
    { what: "goes on where it stopped", late: [1, 2], again: [] },
    { what: "goes on, and then begins anew", late: [1], again: [0, 1, 2] },
    { what: "sends what was lost in between, and begins anew", late: [2], again: [0, 1, 2] },
    { what: "begins anew", late: [], again: [0, 1, 2] },
  ])("a giver that stood still in the middle and then $what gives it all the same", ({ late, again }) => {
    const taker = new PolicyExchange(POLICY_OPTIONS);
    const out: FabricOutput[] = [];
    const size = Math.ceil(bytes.length / 3);
    const send = (n: number, ms: number) => {
      const part = bytes.subarray(n * size, (n + 1) * size);
      taker.receive(1, { kind: "policyPart", head, part, offset: n * size, sizeBytes: bytes.length }, at(ms), out);
    };
    taker.opened(1, accepted);
    taker.receive(1, { kind: "policyHead", head }, at(0), out);
    const asks = (ms: number) => [taker.next(1, at(ms)), taker.next(1, at(ms))].filter((frame) => frame?.kind === "policyWanted").length;
    expect(asks(0)).toBe(1);
    send(0, 0);
    taker.look(at(20_000), out);
    expect(asks(20_000)).toBe(1);
    for (const n of [...late, ...again]) send(n, 20_001);
    expect([taker.refusedCount, out.filter(({ kind }) => kind === "adoptPolicy")]).toMatchObject([0, [{ head, bytes }]]);
  });

  test("who tells ever newer heads and gives none does not keep out what others have", () => {
    const taker = new PolicyExchange(POLICY_OPTIONS);
    const out: FabricOutput[] = [];
    taker.opened(1, { ...accepted, nodeId: "evil" });
    taker.opened(2, accepted);
    let made = 100;
    const tellNewer = (ms: number) => taker.receive(1, { kind: "policyHead", head: version(made++, "evil").head }, at(ms), out);
    tellNewer(0);
    taker.receive(2, { kind: "policyHead", head }, at(0), out);
    for (let ms = 0; ms < 8000; ms += 4000) {
      for (const link of [1, 2]) while (taker.next(link, at(ms)) !== undefined);
      tellNewer(ms);
    }
    while (taker.next(2, at(8000)) !== undefined);
    taker.receive(2, { kind: "policyPart", head, part: bytes, offset: 0, sizeBytes: bytes.length }, at(8000), out);
    expect(out.filter(({ kind }) => kind === "adoptPolicy")).toMatchObject([{ head }]);
  });
});
