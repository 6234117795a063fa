/** Static entries of a node that leaves, and of one that takes them (semantics.md, Stop). */
import { expect, test } from "vitest";
import { PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY, HEALTH } from "../../../src/catalog/record/record.ts";
import { MAX_STAMP } from "../../../src/lib/hlc.ts";
import { at, caller, keyOf, Registry, stamped, WALL } from "../../fakes/registry.ts";

const HLC_PER_MS = 2048;
const B = { nodeId: "b", generation: 1 };

test("an offered record is put with its content and principal, one step above, under a static lease; its node's name is ours", () => {
  const r = new Registry();
  r.hear("web", BODY.ENTRY, 10, at(10));
  expect(r.registrar.handOver.take(B, [1], at(20))).toBe(1);
  r.flush(at(20));
  const own = r.replica.own(keyOf("web"));
  expect(own).toMatchObject({ body: BODY.ENTRY, principal: "ann", hlc: (WALL + 10) * HLC_PER_MS + 1, origin: { nodeId: "a" } });
  expect(own?.traits.tags).toEqual(["theirs"]);
  expect(r.leases.find(r.leases.leaseOf(keyOf("web")) ?? "")).toMatchObject({ ttlMs: undefined, principal: "ann", keyCount: 1 });
  // After a restart as well.
  expect(r.twin().names()).toEqual(["web"]);
});

test("fields of a later version are taken over as they are", () => {
  const r = new Registry();
  const later = Uint8Array.of(0xc0, 0x3e, 7);
  const { content, ...rest } = stamped("web");
  r.receive({ ...rest, content: Uint8Array.of(...content, ...later) }, { body: BODY.ENTRY, hlcMs: 10, nodeId: "b" }, at(10));
  expect(r.registrar.handOver.take(B, [1], at(20))).toBe(1);
  r.flush(at(20));
  const { at: from = 0, contentBytes = 0 } = r.replica.own(keyOf("web")) ?? {};
  expect(r.replica.slab.view(from, contentBytes).slice(-later.length)).toEqual(later);
  // And a report of its health, made here from now on, leaves them there.
  r.registrar.renew(caller("ann"), [], [{ key: keyOf("web"), path: "", health: HEALTH.CRITICAL, load: undefined }], at(30));
  r.flush(at(30));
  const own = r.replica.own(keyOf("web"));
  expect(own?.health).toBe(HEALTH.CRITICAL);
  expect(r.replica.slab.view(own?.at ?? 0, own?.contentBytes ?? 0).slice(-later.length)).toEqual(later);
});

test("what would be too large under this node's name is left to others, and the rest of the offer is taken", () => {
  const r = new Registry();
  const { content, ...rest } = stamped("huge");
  // Without a node's name, and filled up by a field of a later version to all that a record may have.
  const nameless = Buffer.from(Buffer.from(content).toString("latin1").replace("\x6a\x01a", ""), "latin1");
  const sizeBytes = PROTOCOL_BOUNDS.maxEntryBytes - nameless.length - 5;
  const head = Uint8Array.of(0xc2, 0x3e, (sizeBytes & 127) | 128, ((sizeBytes >>> 7) & 127) | 128, sizeBytes >>> 14);
  const full = Uint8Array.from(Buffer.concat([nameless, head, Buffer.alloc(sizeBytes, 1)]));
  r.receive({ ...rest, content: full }, { body: BODY.ENTRY, hlcMs: 10, nodeId: "b" }, at(10));
  r.hear("web", BODY.ENTRY, 10, at(10));
  expect(r.registrar.handOver.take(B, [1, 2], at(20))).toBe(1);
  r.flush(at(20));
  expect([r.replica.own(keyOf("huge")), r.replica.own(keyOf("web"))?.body]).toEqual([undefined, BODY.ENTRY]);
  expect(r.unleased()).toEqual([]);
});

test("what has the newest stamp that there may be is left to its node: one step on would be refused by everybody", () => {
  const r = new Registry();
  r.hear("web", BODY.ENTRY, MAX_STAMP / HLC_PER_MS - WALL, at(10));
  expect(r.registrar.handOver.take(B, [1], at(20))).toBe(0);
});

test.each([
  { what: "unregistered since", body: BODY.UNREGISTERED },
  { what: "registered anew since", body: BODY.ENTRY },
])("a record that another node has $what is not taken", ({ body }) => {
  const r = new Registry();
  r.hear("web", BODY.ENTRY, 10, at(10));
  r.hear("web", body, 20, at(20), "c");
  expect(r.registrar.handOver.take(B, [1], at(30))).toBe(0);
});

test("an unregister by who has not seen the hand-over wins, though its clock is behind", () => {
  const r = new Registry();
  r.hear("web", BODY.ENTRY, 60_000, at(0));
  // As another node would stamp it, knowing the first record only.
  r.registrar.unregisterKeys(caller("ann"), [keyOf("web")], at(0));
  const unregistered = r.replica.own(keyOf("web"))?.hlc ?? 0;
  r.flush(at(0));
  expect(unregistered).toBeGreaterThan((WALL + 60_000) * HLC_PER_MS + 1000);
  expect(r.registrar.handOver.take(B, [1], at(10))).toBe(0);
});

test("the leaver ends its record when it sees the successor, not before, and nothing when there is nobody", () => {
  const r = new Registry();
  r.register("ann", [stamped("web"), stamped("db", { scope: SCOPE.LOCAL })], at(0), { isStatic: true });
  r.register("ann", [stamped("api")], at(0));
  const { handOver } = r.registrar;
  r.registrar.endOwn(0, 1000, at(100));
  r.flush(at(100));
  expect([r.names(), handOver.localEndedCount]).toEqual([["web"], 1]);
  handOver.begin(at(100));
  const handOverTargets = [{ nodeId: "b", refusals: 0, runsChecks: false }];
  const { offers } = handOver.step(handOverTargets, at(100));
  expect(offers).toEqual([{ nodeId: "b", seqs: [r.replica.own(keyOf("web"))?.seq] }]);
  r.flush(at(100));
  expect(handOver.step(handOverTargets, at(150))).toEqual({ offers: [], isOver: false });
  r.hear("web", BODY.ENTRY, 200, at(200));
  expect(handOver.step(handOverTargets, at(200)).isOver).toBe(true);
  r.flush(at(200));
  expect([r.replica.own(keyOf("web"))?.body, handOver.takenCount, handOver.left(), r.leases.size]).toEqual([BODY.EXPIRED, 1, [], 0]);
});

test("an entry with checks is only offered to a node that runs checks, and stays where there is none", () => {
  const r = new Registry();
  const checks = [{ probe: { case: "tcp", value: {} } } as const];
  const checked = () => stamped("checked", { targets: [{ host: "10.0.0.1", port: 80 }], checks });
  r.register("ann", [checked(), stamped("plain")], at(0), { isStatic: true });
  r.registrar.endOwn(0, 1000, at(0));
  r.flush(at(0));
  const seqOf = (name: string) => r.replica.own(keyOf(name))?.seq;
  const { handOver } = r.registrar;
  handOver.begin(at(0));
  const [without, other, runner] = [
    { nodeId: "b", refusals: 0, runsChecks: false },
    { nodeId: "d", refusals: 0, runsChecks: false },
    { nodeId: "c", refusals: 0, runsChecks: true },
  ];
  expect(handOver.step([without], at(0)).offers).toEqual([{ nodeId: "b", seqs: [seqOf("plain")] }]);
  r.hear("plain", BODY.ENTRY, 10, at(10));
  expect(handOver.step([without], at(20))).toEqual({ offers: [], isOver: false });
  r.flush(at(20));
  // Nobody who is there may have the other one: that is as if nobody were there.
  expect([handOver.step([without], at(400)).isOver, handOver.step([without, other], at(1000)).isOver]).toEqual([false, true]);
  expect(handOver.untaken().leftCount).toBe(1);
  expect(handOver.step([without, runner], at(1100)).offers).toEqual([{ nodeId: "c", seqs: [seqOf("checked")] }]);
});

test("an entry with a check of a kind that this version does not know stays: a node that runs all the known ones may not run it", () => {
  const r = new Registry();
  // `checks`, with one that says nothing but a field of a later version.
  const later = Uint8Array.of(0xd2, 1, 3, 0xa0, 6, 1);
  const { content, ...rest } = stamped("web");
  r.receive(
    { ...rest, hasChecks: true, content: Uint8Array.of(...content, ...later) },
    { body: BODY.ENTRY, hlcMs: 10, nodeId: "b" },
    at(10),
  );
  expect(r.registrar.handOver.take(B, [1], at(20))).toBe(1);
  r.flush(at(20));
  const { handOver } = r.registrar;
  handOver.begin(at(30));
  const runner = { nodeId: "c", refusals: 0, runsChecks: true };
  expect([handOver.step([runner], at(30)), handOver.untaken().leftCount]).toEqual([{ offers: [], isOver: false }, 1]);
});

test("what a node has above that is gone is no successor: it keeps nobody from taking a record, and no leaver ends its own for it", () => {
  const handOverTarget = new Registry();
  handOverTarget.hear("web", BODY.ENTRY, 10, at(10));
  handOverTarget.hear("web", BODY.ENTRY, 60_000, at(10), "gone");
  handOverTarget.replica.origins.get("gone/1")!.life = "orphaned";
  expect(handOverTarget.registrar.handOver.take(B, [1], at(20))).toBe(1);
  const leaver = new Registry();
  leaver.register("ann", [stamped("web")], at(0), { isStatic: true });
  leaver.flush(at(0));
  leaver.hear("web", BODY.ENTRY, 60_000, at(10), "gone");
  leaver.replica.origins.get("gone/1")!.life = "orphaned";
  const { handOver } = leaver.registrar;
  handOver.begin(at(20));
  handOver.step([{ nodeId: "b", refusals: 0, runsChecks: false }], at(20));
  expect([handOver.step([{ nodeId: "b", refusals: 0, runsChecks: false }], at(30)).isOver, handOver.takenCount]).toEqual([false, 0]);
  leaver.hear("web", BODY.ENTRY, 1, at(40), "b");
  expect([handOver.step([{ nodeId: "b", refusals: 0, runsChecks: false }], at(50)).isOver, handOver.takenCount]).toEqual([true, 1]);
});

test("who refuses, or takes too long, is passed over; without anybody it is over, and the entries stand", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { isStatic: true });
  r.flush(at(0));
  const { handOver } = r.registrar;
  handOver.begin(at(0));
  const [b, c] = [
    { nodeId: "b", refusals: 0, runsChecks: false },
    { nodeId: "c", refusals: 0, runsChecks: false },
  ];
  const asked = (step: { readonly offers: readonly { readonly nodeId: string }[] }) => step.offers.map(({ nodeId }) => nodeId);
  expect(asked(handOver.step([b, c], at(0)))).toEqual(["b"]);
  expect(asked(handOver.step([{ ...b, refusals: 1 }, c], at(10)))).toEqual(["c"]);
  expect(asked(handOver.step([c], at(1000)))).toEqual([]);
  expect(asked(handOver.step([{ ...b, refusals: 1 }, c], at(2100)))).toEqual(["b"]);
  expect(handOver.step([], at(2200)).isOver).toBe(false);
  expect(handOver.step([], at(3000)).isOver).toBe(true);
  expect(handOver.left()).toHaveLength(1);
});

test("a leaver without anybody to offer to waits half a second for somebody, and then its entries stay", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { isStatic: true });
  r.flush(at(0));
  const { handOver } = r.registrar;
  handOver.begin(at(5000));
  expect([5000, 5499, 5500].map((ms) => handOver.step([], at(ms)).isOver)).toEqual([false, false, true]);
  expect(handOver.left()).toHaveLength(1);
});

test("all that is taken of one principal in one offer is under one lease", () => {
  const r = new Registry();
  for (const name of ["web", "db"]) r.hear(name, BODY.ENTRY, 10, at(10));
  expect(r.registrar.handOver.take(B, [1, 2], at(20))).toBe(2);
  r.flush(at(20));
  const leases = ["web", "db"].map((name) => r.leases.leaseOf(keyOf(name)));
  expect([r.leases.size, leases[0] === leases[1]]).toEqual([1, true]);
});

test("what is taken over an older record of our own counts as changed for filters where it differs in what they ask", () => {
  for (const [tags, isChanged] of [
    [["ours"], true],
    [["theirs"], false],
  ] as const) {
    const r = new Registry();
    r.register("ann", [stamped("web", { tags: [...tags] })], at(0), { isStatic: true });
    r.hear("web", BODY.ENTRY, 10, at(10));
    expect(r.registrar.handOver.take(B, [1], at(20))).toBe(1);
    r.flush(at(20));
    const own = r.replica.own(keyOf("web"));
    expect([own?.traits.tags, own?.filterSeq === own?.seq]).toEqual([["theirs"], isChanged]);
  }
});

test("a record that was put anew after it was offered is not waited for: nobody takes it under the number that was offered", () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { isStatic: true });
  r.flush(at(0));
  const { handOver } = r.registrar;
  const handOverTargets = [{ nodeId: "b", refusals: 0, runsChecks: false }];
  handOver.begin(at(0));
  expect(handOver.step(handOverTargets, at(0)).offers).toHaveLength(1);
  r.registrar.renew(caller("ann"), [], [{ key: keyOf("web"), path: "", health: HEALTH.CRITICAL, load: undefined }], at(10));
  r.flush(at(10));
  expect(handOver.step(handOverTargets, at(20))).toEqual({ offers: [], isOver: true });
  // It stands, and the node says that it restarts.
  expect(handOver.left()).toHaveLength(1);
});
