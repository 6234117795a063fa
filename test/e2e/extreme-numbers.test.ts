/**
 * A peer that says numbers at the ends of what their fields can hold, to a real node: every write, lease and restart goes on.
 *
 * @module-tag night
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { create, type JsonObject, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { type Entry, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { RecordSchema, RecordsFrameSchema } from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { MAX_STAMP } from "../../src/lib/hlc.ts";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { type RawFrame, RawLink } from "../fakes/raw-link.ts";
import { until } from "../fakes/until.ts";

const data = mkdtempSync(join(tmpdir(), "waymark-extreme-"));
afterAll(() => rmSync(data, { recursive: true, force: true }));

const TOP = BigInt(MAX_STAMP);
const ENDS = [
  0n,
  1n,
  2n ** 32n,
  2n ** 52n,
  2n ** 52n + 1n,
  TOP - 1n,
  TOP,
  TOP + 1n,
  2n ** 53n - 2n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];
const WEB = "svc.market";
/** Links open at once. */
const AT_ONCE = 40;

type RecordInit = MessageInitShape<typeof RecordSchema>;
type FrameInit = Exclude<MessageInitShape<typeof RecordsFrameSchema>, { $typeName: string }>;

function keyOf(name: string) {
  return { kind: 1, namespace: WEB, name, instanceId: "1", clusterId: "c1" };
}

function entryOf(nodeId: string, name: string, more: Partial<Entry> = {}): Uint8Array {
  const at = { seconds: 1_700_000_000n, nanos: 0 };
  const stamped = { key: keyOf(name), scope: 2, clusterId: "c1", region: "eu", zone: "z1", nodeId, health: 1 };
  // The times come last: a sealed entry ends with them.
  const entry = create(EntrySchema, { ...stamped, registeredAt: at, updatedAt: at, ...more } as MessageInitShape<typeof EntrySchema>);
  return toBinary(EntrySchema, entry);
}

interface Case {
  readonly what: string;
  readonly frames: (nodeId: string, generation: number, name: string) => readonly RawFrame[];
}

function recordsFrame(nodeId: string, generation: number, record: RecordInit, more: FrameInit = {}): RawFrame {
  const value: MessageInitShape<typeof RecordsFrameSchema> = {
    origin: { nodeId, generation: BigInt(generation) },
    through: 10n,
    clusterId: "c1",
    region: "eu",
    records: [record],
    ...more,
  };
  return { case: "records", value };
}

function recordOf(nodeId: string, name: string, more: RecordInit): RecordInit {
  const stamp = BigInt(Date.now()) * 2048n;
  return { seq: 5n, hlc: stamp, reach: 2, filterSeq: 1n, firstSeq: 1n, body: { case: "entry", value: entryOf(nodeId, name) }, ...more };
}

const RECORD_FIELDS = ["seq", "hlc", "filterSeq", "firstSeq", "unregisteredHlc"] as const;
const FRAME_FIELDS = ["after", "through", "floor", "known"] as const;

function cases(): readonly Case[] {
  const all: Case[] = [];
  for (const end of ENDS) {
    for (const field of RECORD_FIELDS) {
      const numbers = field === "unregisteredHlc" ? { hlc: end, [field]: end } : { [field]: end };
      all.push({
        what: `record.${field} ${end}`,
        frames: (nodeId, generation, name) => [
          recordsFrame(nodeId, generation, recordOf(nodeId, name, numbers), field === "seq" ? { through: end } : {}),
        ],
      });
    }
    for (const cause of [1, 2])
      all.push({
        what: `tombstone ${cause} of hlc ${end}`,
        frames: (nodeId, generation, name) => [
          recordsFrame(
            nodeId,
            generation,
            recordOf(nodeId, name, { hlc: end, body: { case: "tombstone", value: { key: keyOf(name), cause } } }),
          ),
        ],
      });
    for (const field of FRAME_FIELDS)
      all.push({
        what: `records.${field} ${end}`,
        frames: (nodeId, generation, name) => [recordsFrame(nodeId, generation, recordOf(nodeId, name, {}), { [field]: end })],
      });
    all.push({
      what: `records.origin.generation ${end}`,
      frames: (nodeId, _, name) => [recordsFrame(nodeId, 1, recordOf(nodeId, name, {}), { origin: { nodeId, generation: end } })],
    });
    const origin = (nodeId: string, generation: number) => ({ nodeId, generation: BigInt(generation) });
    for (const field of ["seq", "floor"])
      for (const wanted of [false, true])
        all.push({
          what: `vector.${field} ${end}${wanted ? ", wanted" : ""}`,
          frames: (nodeId, generation) => [
            { case: "vector", value: { entries: [{ origin: origin(nodeId, generation), [field]: end }], partial: true, wanted } },
          ],
        });
    all.push({
      what: `vector.generation ${end}`,
      frames: (nodeId) => [{ case: "vector", value: { entries: [{ origin: { nodeId, generation: end }, seq: 3n }], partial: true } }],
    });
    for (const field of ["through", "liveCount", "digest"])
      all.push({
        what: `digests.${field} ${end}`,
        frames: (nodeId, generation) => [{ case: "digests", value: { origins: [{ origin: origin(nodeId, generation), [field]: end }] } }],
      });
    for (const field of ["number", "hlc"])
      all.push({
        what: `policy.head.${field} ${end}`,
        frames: (nodeId) => [{ case: "policy", value: { head: { number: 0n, nodeId, [field]: end } } }],
      });
    all.push({ what: `policy.wanted ${end}`, frames: () => [{ case: "policy", value: { wantedNumber: end } }] });
    const at = (seconds: bigint) => ({ $typeName: "google.protobuf.Timestamp", seconds: BigInt.asIntN(64, seconds), nanos: 0 }) as const;
    for (const field of ["registeredAt", "updatedAt"] as const)
      all.push({
        what: `entry.${field} ${end}`,
        frames: (nodeId, generation, name) => {
          const value = entryOf(nodeId, name, { [field]: at(end) });
          return [recordsFrame(nodeId, generation, recordOf(nodeId, name, { body: { case: "entry", value } }))];
        },
      });
  }
  return all;
}

function start(): Promise<NodeProcess> {
  return startNodeProcess(["--data-dir", data, "--node-id", "a", "--cluster-id", "c1", "--region", "eu"]);
}

async function registered(door: GrpcDoor): Promise<ReadonlySet<string>> {
  const names = new Set<string>();
  for (let pageToken = ""; ; ) {
    const { response, code, message } = await door.ask("catalogQuery", {
      namespace: WEB,
      limit: 1000,
      ...(pageToken !== "" && { pageToken }),
    });
    expect(`${code} ${message}`).toMatch(/^OK/);
    for (const item of (response["items"] ?? []) as JsonObject[])
      if (item["nodeId"] === "a") names.add(textOf((item["key"] as JsonObject)["name"]));
    pageToken = textOf(response["nextPageToken"] ?? "");
    if (pageToken === "") return names;
  }
}

const entriesOf = (names: readonly string[]) =>
  names.map((name) => ({ key: { kind: "ENTRY_KIND_SERVICE", namespace: WEB, name, instanceId: "1" } }));

test("every number of every frame at its ends, then a write, an unregister, the end of a lease and a restart", {
  tags: ["night"],
}, async () => {
  let node = await start();
  let door = new GrpcDoor(node.grpc);
  const all = cases();
  const [kept, leased, gone]: [string[], string[], string[]] = [[], [], []];
  try {
    const stuck: string[] = [];
    for (let from = 0; from < all.length; from += AT_ONCE) {
      const links = all.slice(from, from + AT_ONCE).map(({ frames }, n) => {
        const [nodeId, generation] = [`evil${from + n}`, 7 + from + n];
        const link = new RawLink(node.listeners["fabric"] ?? "", nodeId, generation);
        for (const frame of frames(nodeId, generation, `f${from + n}`)) link.say(frame);
        return link;
      });
      await Promise.all(links.map((link) => link.end()));
      for (const link of links) link[Symbol.dispose]();
    }
    for (const [i, { what }] of all.entries()) {
      const name = `f${i}`;
      const target = [kept, leased, gone][i % 3] ?? kept;
      const lease = i % 3 === 1 ? { ttl: "1s" } : { staticLease: true };
      const { code, reason, message } = await door.ask("register", { entries: entriesOf([name]), ...lease });
      if (code === "OK") target.push(name);
      else {
        expect(`${what}: ${code} ${reason} ${message}`).toMatch(/clock_skew/);
        stuck.push(what);
      }
    }
    // Only what others may say of the last stamps there are makes a key that nobody writes again, and nothing else stops: a write is above what it
    // replaces by as many steps as nodes that leave may have added unseen (1,024).
    expect(stuck.filter((what) => !what.endsWith(` ${TOP}`) && !what.endsWith(` ${TOP - 1n}`))).toEqual([]);
    for (const name of gone) {
      const { code, reason } = await door.ask("unregister", {
        keys: [{ kind: "ENTRY_KIND_SERVICE", namespace: WEB, name, instanceId: "1" }],
      });
      expect(`${name} ${code} ${reason}`).toMatch(/OK|clock_skew/);
    }
    await until("leases end", async () => {
      const names = await registered(door);
      return leased.filter((name) => names.has(name));
    });
    const before = await registered(door);
    expect(kept.filter((name) => !before.has(name)).map((name) => all[Number(name.slice(1))]?.what)).toEqual([]);
    await node.stop("SIGKILL");
    door[Symbol.dispose]();
    node = await start();
    door = new GrpcDoor(node.grpc);
    expect([...(await registered(door))].toSorted()).toEqual([...before].toSorted());
    expect((await door.ask("register", { entries: entriesOf(["after"]), staticLease: true })).code).toBe("OK");
  } finally {
    door[Symbol.dispose]();
    await node[Symbol.asyncDispose]();
  }
});

/** These tests change a module of the node before it starts: it has to run the sources. */
const SOURCES = "bin/waymark";

test("a bug that nobody can show to have changed nothing ends the process, and the next start has all that was acknowledged", {
  tags: ["night"],
}, async () => {
  const errors = pathToFileURL(resolve("src/lib/errors.ts")).href;
  const plant = `import { assert } from "${errors}"; process.on("SIGUSR2", () => setTimeout(() => assert(false, "planted")));`;
  const wrapper = ["env", `NODE_OPTIONS=--import=data:text/javascript,${encodeURIComponent(plant)}`];
  const folder = mkdtempSync(join(data, "planted-"));
  const flags = ["--data-dir", folder, "--node-id", "a"];
  {
    await using node = await startNodeProcess(flags, wrapper, undefined, SOURCES);
    using door = new GrpcDoor(node.grpc);
    expect((await door.ask("register", { entries: entriesOf(["kept"]), staticLease: true })).code).toBe("OK");
    const { exit, stderr } = await node.stop("SIGUSR2");
    expect([exit, stderr.includes("assertion failed: planted")]).toEqual([1, true]);
  }
  await using node = await startNodeProcess(flags);
  using door = new GrpcDoor(node.grpc);
  expect([...(await registered(door))]).toEqual(["kept"]);
});

test("a bug in a write of which everything is taken back ends only the call; where something may be left, it ends the process", async () => {
  const [errors, replica, registrar] = ["src/lib/errors.ts", "src/catalog/replica/replica.ts", "src/discovery/registrar/registrar.ts"].map(
    (path) => pathToFileURL(resolve(path)).href,
  );
  const plant = `
    import { assert } from "${errors}"; import { Replica } from "${replica}"; import { Registrar } from "${registrar}";
    const [{ stagePut }, { register }] = [Replica.prototype, Registrar.prototype];
    Replica.prototype.stagePut = function (put) {
      const staged = stagePut.call(this, put);
      assert(!put.key.includes("undone"), "planted where all is taken back");
      return staged;
    };
    Registrar.prototype.register = function (caller, command, time) {
      const registered = register.call(this, caller, command, time);
      assert(!command.stampedEntries.some(({ key }) => key.includes("left")), "planted where it is left");
      return registered;
    };`;
  const wrapper = ["env", `NODE_OPTIONS=--import=data:text/javascript,${encodeURIComponent(plant)}`];
  const flags = ["--data-dir", mkdtempSync(join(data, "undone-")), "--node-id", "a"];
  {
    await using node = await startNodeProcess(flags, wrapper, undefined, SOURCES);
    using door = new GrpcDoor(node.grpc);
    const put = async (...names: readonly string[]) => (await door.ask("register", { entries: entriesOf(names), staticLease: true })).code;
    expect([await put("kept"), await put("web", "undone"), await put("after")]).toEqual(["OK", "INTERNAL", "OK"]);
    expect(await registered(door)).toEqual(new Set(["kept", "after"]));
    expect(node.command.stderr).toContain("assertion failed: planted where all is taken back");
    await put("left");
    await until("the process has ended", () => !node.command.isRunning);
    const { exit, stderr } = await node.command.finished();
    expect([exit, stderr.includes("assertion failed: planted where it is left")]).toEqual([1, true]);
  }
  await using node = await startNodeProcess(flags);
  using door = new GrpcDoor(node.grpc);
  expect([...(await registered(door))]).toEqual(expect.arrayContaining(["kept", "after"]));
});

test("a bug while a node ends its entries to leave ends the process: it neither says that it left nor loses what it had", {
  tags: ["night"],
}, async () => {
  const [errors, handOver] = ["src/lib/errors.ts", "src/discovery/registrar/hand-over.ts"].map((path) => pathToFileURL(resolve(path)).href);
  const plant =
    `import { assert } from "${errors}"; import { HandOver } from "${handOver}"; ` +
    `HandOver.prototype.stays = () => assert(false, "planted");`;
  const wrapper = ["env", `NODE_OPTIONS=--import=data:text/javascript,${encodeURIComponent(plant)}`];
  const flags = ["--data-dir", mkdtempSync(join(data, "leaving-")), "--node-id", "a"];
  await using other = await startNodeProcess(["--ephemeral", "--node-id", "b"]);
  {
    await using node = await startNodeProcess([...flags, "--join", other.listeners["fabric"] ?? ""], wrapper, undefined, SOURCES);
    using door = new GrpcDoor(node.grpc);
    expect((await door.ask("register", { entries: entriesOf(["kept"]), staticLease: true })).code).toBe("OK");
    const { exit, stderr } = await node.stop("SIGTERM");
    expect([exit, stderr.includes("assertion failed: planted")]).toEqual([1, true]);
  }
  await using node = await startNodeProcess(flags);
  using door = new GrpcDoor(node.grpc);
  expect([...(await registered(door))]).toEqual(["kept"]);
});
