/** What a node of another cluster may not do to ours, though it is let in: real nodes, and one that lies on its link. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { encodeRecord } from "../../src/catalog/record/codec.ts";
import { BODY, HEALTH, KIND, keyText } from "../../src/catalog/record/record.ts";
import { NO_TRAITS } from "../../src/catalog/record/traits.ts";
import type { FabricTransport } from "../../src/fabric/transport/transport.io.ts";
import type { LinkFrame, NodeRef, ReplicationFrame } from "../../src/fabric/wire/messages.ts";
import { type FakeMachine, openTestTransport } from "../fakes/fabric-transport.ts";
import { helloOf } from "../fakes/fabric-values.ts";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { framesOf, ReplicatingNode, vectorOf } from "../fakes/replication.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-border-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const CONFIG = join(HOME, "node.json");
writeFileSync(CONFIG, JSON.stringify({ fabric: { trust: "explicit", clusters: ["c1", "c2", "c3"] } }));
const LINK = 2;

type Liar = FakeMachine & { readonly transport: FabricTransport };
const SCOPES = ["LOCAL", "ZONE", "REGION"] as const;

function start(nodeId: string, clusterId: string, peers: readonly NodeProcess[] = [], disk = ["--ephemeral"]): Promise<NodeProcess> {
  const joins = peers.length === 0 ? [] : ["--join", peers.map((peer) => peer.listeners["fabric"] ?? "").join()];
  return startNodeProcess([...disk, "--config", CONFIG, "--node-id", nodeId, "--cluster-id", clusterId, "--region", "eu", ...joins]);
}

async function seenAt(door: GrpcDoor): Promise<readonly string[]> {
  const { response } = await door.ask("catalogQuery", { namespace: "svc" });
  return ((response["items"] ?? []) as JsonObject[]).map((item) => textOf((item["key"] as JsonObject)["name"])).toSorted();
}

function shows(door: GrpcDoor, names: readonly string[]): Promise<void> {
  return until(`${names.join()} are shown`, async () => {
    const seen = await seenAt(door);
    return seen.join() === names.toSorted().join() ? [] : [seen.join()];
  });
}

async function register(door: GrpcDoor, name: string, scope: string): Promise<void> {
  const entry = { key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc", name, instanceId: "1" }, scope: `SCOPE_${scope}` };
  expect((await door.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
}

/** A node of cluster c2, with a link to that one and what it says of itself. */
async function foreigner(to: NodeProcess): Promise<{ readonly machine: Liar; readonly mind: ReplicatingNode; readonly say: () => void }> {
  const machine = await openTestTransport();
  const mind = new ReplicatingNode({
    nodeId: "evil",
    clusterId: "c2",
    region: "eu",
    generation: Date.now(),
    skewMs: Date.now() - 1_700_000_000_000,
  });
  const from = { nodeId: "evil", generation: mind.replica.self.generation };
  machine.greeting = { kind: "hello", hello: helloOf("evil", { address: machine.transport.address, clusterId: "c2", ...from }) };
  machine.answer = () => ({ kind: "probe", from: { ...from, clusterId: "c2", region: "eu" }, updates: [] });
  machine.transport.openLink(LINK, to.listeners["fabric"] ?? "");
  await until("linked", () => (machine.links.get(LINK)?.frames.length ?? 0) > 0);
  return { machine, mind, say: () => machine.say(LINK, framesOf(mind, 0)) };
}

test("entries of ours stand whatever a node of another cluster unregisters: LOCAL, ZONE and REGION; its clients are told so", async () => {
  await using a = await start("a", "c1");
  await using b = await start("b", "c1", [a]);
  using atA = new GrpcDoor(a.grpc);
  using atB = new GrpcDoor(b.grpc);
  for (const scope of SCOPES) await register(atA, scope.toLowerCase(), scope);
  await shows(atB, ["region", "zone"]);
  const { machine, mind, say } = await foreigner(a);
  for (const scope of SCOPES) {
    const key = keyText({ kind: KIND.SERVICE, namespace: "svc", name: scope.toLowerCase(), instanceId: "1", clusterId: "c1" });
    const said = { key, namespace: "svc", name: scope.toLowerCase(), kind: KIND.SERVICE, scope: SCOPE.REGION, reach: SCOPE.REGION };
    const ended = { ...said, health: HEALTH.HEALTHY, traits: NO_TRAITS, principal: "" };
    mind.replica.stageTombstone(ended, BODY.UNREGISTERED, mind.hlc.stamp(Date.now() + 30_000));
  }
  mind.put("theirs", 0, { scope: SCOPE.REGION });
  say();
  await shows(atB, ["region", "theirs", "zone"]);
  await shows(atA, ["local", "region", "theirs", "zone"]);
  await machine.transport.stop(200);
  await using c = await start("c", "c2", [a, b]);
  using atC = new GrpcDoor(c.grpc);
  await until("c has it", async () => ((await seenAt(atC)).includes("region") ? [] : ["not yet"]));
  const key = { kind: "ENTRY_KIND_SERVICE", namespace: "svc", name: "region", instanceId: "1", clusterId: "c1" };
  expect((await atC.ask("unregister", { keys: [key] })).code).toBe("PERMISSION_DENIED");
  expect((await atB.ask("unregister", { keys: [key] })).code).toBe("OK");
  await until("it is gone", async () => ((await seenAt(atC)).includes("region") ? ["still there"] : []));
});

test("a record of theirs that a node of ours refuses makes no other one of ours stale, nor a newcomer, also when they are gone", {
  tags: ["night"],
}, async () => {
  await using a = await start("a", "c1");
  await using b = await start("b", "c1", [a]);
  using atA = new GrpcDoor(a.grpc);
  await register(atA, "ours", "ZONE");
  const { machine } = await foreigner(a);
  const key = { kind: KIND.SERVICE, namespace: "svc", name: "theirs", instanceId: "1", clusterId: "c2" };
  const head = { seq: 1, hlc: Date.now() * 2048, reach: SCOPE.REGION, filterSeq: 0, firstSeq: 0, principal: "" };
  // There is no such cause.
  const bad = encodeRecord(head, { body: 77 as typeof BODY.UNREGISTERED, key });
  const frame = { nodeId: "nobody", generation: 5, after: 0, through: 1, records: [bad], isComplete: false, isLast: false, floor: 0 };
  machine.say(LINK, vectorOf([]), { kind: "records", frame, clusterId: "c2", region: "eu" });
  const lagOf = async (node: NodeProcess) => (await fetch(`http://${node.listeners["http"]}/discovery/lag`)).text();
  for (const node of [a, b]) await until("it is known", async () => ((await lagOf(node)).includes("nobody/5") ? [] : [await lagOf(node)]));
  await machine.transport.stop(200);
  await using c = await start("c", "c1", [a]);
  for (const node of [c, b, a]) {
    using door = new GrpcDoor(node.grpc);
    await until("fresh", async () => {
      const { code, message } = await door.ask("catalogQuery", { namespace: "svc", maxStaleness: "3s" });
      return code === "OK" ? [] : [message ?? code];
    });
  }
  // It would never be in step with a if what a lacks counted.
  await until("in step", async () => ((await lagOf(c)).includes("in sync with all peers") ? [] : [await lagOf(c)]));
  expect(await lagOf(c)).toContain("nobody/5");
});

async function generationOf(node: NodeProcess): Promise<number> {
  const { machine } = await foreigner(node);
  const [greeting] = machine.links.get(LINK)?.frames ?? [];
  await machine.transport.stop(200);
  return greeting?.kind === "hello" ? greeting.hello.generation : 0;
}

/** All that there is of that origin, says its frame, up to a number that it never reaches: nothing. */
function graveOf({ nodeId, generation }: NodeRef, clusterId: string): readonly LinkFrame[] {
  const through = 2 ** 51;
  const frame = { nodeId, generation, after: 0, through, records: [], isComplete: true, isLast: true, floor: 0 };
  const said: ReplicationFrame = { kind: "records", frame, clusterId, region: "eu" };
  return [vectorOf([{ nodeId, generation, seq: through }], { isPartial: true }), said];
}

test("what a node of a third cluster says was never written is there, and what is written later too: told before the truth, and after it", {
  tags: ["night"],
}, async () => {
  const disk = ["--data-dir", join(HOME, "c")];
  let generation = 0;
  {
    await using c = await start("c", "c3", [], disk);
    using atC = new GrpcDoor(c.grpc);
    await register(atC, "first", "REGION");
    generation = await generationOf(c);
  }
  await using a = await start("a", "c1");
  await using b = await start("b", "c1", [a]);
  using atA = new GrpcDoor(a.grpc);
  using atB = new GrpcDoor(b.grpc);
  const { machine, mind } = await foreigner(a);
  mind.put("theirs", 0, { scope: SCOPE.REGION });
  machine.say(LINK, ...graveOf({ nodeId: "c", generation }, "c3"), framesOf(mind, 0));
  await shows(atB, ["theirs"]);
  await using c = await start("c", "c3", [a], disk);
  using atC = new GrpcDoor(c.grpc);
  await shows(atA, ["first", "theirs"]);
  await shows(atB, ["first", "theirs"]);
  // Alone in its cluster it believes once that its journal lost something.
  machine.say(LINK, ...graveOf({ nodeId: "c", generation: await generationOf(c) }, "c3"));
  mind.put("more", 0, { scope: SCOPE.REGION });
  machine.say(LINK, framesOf(mind, 0));
  await shows(atA, ["first", "more", "theirs"]);
  await register(atC, "second", "REGION");
  for (const door of [atA, atB]) await shows(door, ["first", "more", "second", "theirs"]);
  expect(generation).toBeGreaterThan(0);
});

test("a later generation of a node, made up by a third cluster's while that node was away, shows and hides nothing once it is back", {
  tags: ["night"],
}, async () => {
  const disk = ["--data-dir", join(HOME, "d")];
  {
    await using d = await start("d", "c3", [], disk);
    using atD = new GrpcDoor(d.grpc);
    for (const name of ["ended", "rewritten"]) await register(atD, name, "REGION");
  }
  await using a = await start("a", "c1");
  await using b = await start("b", "c1", [a]);
  using atA = new GrpcDoor(a.grpc);
  using atB = new GrpcDoor(b.grpc);
  const { machine } = await foreigner(a);
  const skewMs = Date.now() + 20_000 - 1_700_000_000_000;
  const liar = new ReplicatingNode({ nodeId: "d", clusterId: "c3", region: "eu", generation: 4e15, skewMs });
  for (const name of ["forged", "rewritten"]) liar.put(name, 0, { scope: SCOPE.REGION });
  liar.end(liar.put("ended", 0, { scope: SCOPE.REGION }), BODY.UNREGISTERED, 1);
  machine.say(LINK, vectorOf([{ nodeId: "d", generation: 4e15, seq: 4 }], { isPartial: true }), framesOf(liar, 0));
  await shows(atB, ["forged", "rewritten"]);
  await machine.transport.stop(200);
  await using d = await start("d", "c3", [a], disk);
  using atD = new GrpcDoor(d.grpc);
  for (const door of [atA, atB]) await shows(door, ["ended", "rewritten"]);
  // Nor is anything left of it that would stand against what is registered from now on.
  await register(atD, "forged", "REGION");
  await shows(atB, ["ended", "forged", "rewritten"]);
  const all = async (door: GrpcDoor) => JSON.stringify((await door.ask("catalogQuery", { namespace: "svc" })).response["items"]);
  const want = await all(atD);
  for (const door of [atA, atB]) await until("it shows the same", async () => ((await all(door)) === want ? [] : [await all(door)]));
  expect(want).toContain("forged");
});
