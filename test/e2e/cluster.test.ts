/** Real nodes that find each other by a seed, replicate, lose each other and come back. */
import { Resolver } from "node:dns/promises";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import type { FabricTls } from "../../src/fabric/transport/peer-identity.io.ts";
import { FabricAuthority } from "../fakes/fabric-transport.ts";
import { heldAddress } from "../fakes/held-address.ts";
import { Member } from "../fakes/member.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { CommandProcess, onFreePorts, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { readyz, UnreadyNode } from "../fakes/unready-node.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-cluster-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const FAST = join(HOME, "fast.json");
writeFileSync(
  FAST,
  JSON.stringify({
    fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s" },
    // As long as a busy machine takes to hand over what a node has that leaves.
    node: { stop_timeout: "60s" },
    observability: { log_level: "warn" },
  }),
);

/** For nodes of c1 and of c2 that are to find each other. */
const TWO = join(HOME, "two.json");
writeFileSync(
  TWO,
  JSON.stringify({
    fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s", trust: "explicit", clusters: ["c1", "c2"] },
    observability: { log_level: "warn" },
  }),
);

/** The usual settings, unless the flags name others. */
const configOf = (flags: readonly string[]): readonly string[] => (flags.includes("--config") ? [] : ["--config", FAST]);

async function start(nodeId: string, flags: readonly string[] = []): Promise<Member> {
  const where = flags.includes("--ephemeral") ? [] : ["--data-dir", join(HOME, nodeId)];
  return new Member(await startNodeProcess(["--node-id", nodeId, ...configOf(flags), ...where, ...flags]));
}

/** A node that its seeds turn away, when it says so; it is not ready. */
async function startRefused(nodeId: string, flags: readonly string[]): Promise<UnreadyNode> {
  const node = await UnreadyNode.start(["--node-id", nodeId, "--ephemeral", ...configOf(flags), ...flags]);
  await until("it is turned away", async () => {
    const said = await readyz(node.http);
    return said.startsWith("503 ") && said.includes("refused by") ? [] : [said];
  });
  return node;
}

/** What a node shows that is not ready. */
async function seenAt({ grpc }: UnreadyNode): Promise<unknown> {
  using door = new GrpcDoor(grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  return response["items"] ?? [];
}

/** Waits until what is read is what is wanted; fails with what it was last. */
function eventually<T>(what: string, read: () => Promise<T>, want: T): Promise<void> {
  return expect.poll(read, { message: what }).toEqual(want);
}

/** Whether the node's directory names the other one as a member of its cluster. */
function remembers(nodeId: string, other: string): boolean {
  const path = join(HOME, nodeId, "members");
  return existsSync(path) && readFileSync(path).includes(`"${other}"`);
}

const CHECKED = ["web healthy", "db healthy", "api healthy"];

test("three nodes are one catalog: query, watch, DNS; a crash makes orphans, a return heals them, a leave ends them", async () => {
  await using a = await start("a");
  let [b, c] = await Promise.all([start("b", ["--join", a.fabric]), start("c", ["--join", a.fabric])]);
  const bPort = b.fabric.split(":")[1] ?? "";
  try {
    for (const [member, others] of [
      [a, ["b alive", "c alive"]],
      [b, ["a alive", "c alive"]],
      [c, ["a alive", "b alive"]],
    ] as const)
      await eventually("peers", () => member.peers(), others);
    await using watching = new CommandProcess(["discovery", "watch", "--prefix", "svc", "-o", "json", "--server", c.node.grpc]);
    await a.register("web");
    await b.register("db");
    await c.register("api");
    for (const member of [a, b, c]) await eventually("entries", async () => (await member.seen()).toSorted(), CHECKED.toSorted());
    await watching.line(/"web"/);
    watching.kill("SIGTERM");
    const resolver = new Resolver();
    resolver.setServers([b.node.listeners["dns"] ?? ""]);
    expect(await resolver.resolveSrv("_svc._tcp.web.svc.market.waymark")).toMatchObject([{ port: 80 }]);
    expect((await b.door.ask("catalogQuery", { namespacePrefix: "svc", maxStaleness: "30s" })).code).toBe("OK");
    // Peers speak once a second: nobody can promise that nothing at all is missing.
    expect((await b.door.ask("catalogQuery", { namespacePrefix: "svc", maxStaleness: "0s" })).reason).toBe("too_stale");
    const inStep: unknown = expect.objectContaining({
      ready: true,
      caughtUp: true,
      detail: "in sync with all peers",
      originsProtected: false,
      links: [expect.anything(), expect.anything()],
    });
    await eventually("a is in step", async () => (await a.http("/discovery/lag")).body, inStep as JsonObject);

    // Taken out elsewhere than where it was registered: gone for good, its own node has ended it too, until it is registered again.
    const api = { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "api", instanceId: "1" };
    expect((await a.door.ask("unregister", { keys: [api] })).response).toMatchObject({ removed: 1 });
    for (const member of [b, c]) await eventually("taken out", async () => (await member.seen()).toSorted(), ["db healthy", "web healthy"]);
    await c.register("api");
    for (const member of [a, b]) await eventually("back", async () => (await member.seen()).toSorted(), CHECKED.toSorted());

    // Members are probed all the time; as long as none changes, the list of them is the same.
    let { etag } = await a.peersSince("");
    const lastSeen = async () =>
      JSON.stringify(((await a.http("/control/peers")).body["peers"] as { lastSeen?: string }[]).map(({ lastSeen: at }) => at));
    const before = await lastSeen();
    await eventually("b and c are seen again", async () => (await lastSeen()) !== before, true);
    await eventually(
      "unchanged",
      async () => {
        const { status, etag: now } = await a.peersSince(etag);
        etag = now;
        return status;
      },
      304,
    );

    // A crash: no longer a peer, its entries are orphans.
    await b.node.stop("SIGKILL");
    await eventually("b is gone from the peers", () => a.peers(), ["c alive"]);
    expect((await a.peersSince(etag)).status).toBe(200);
    await eventually("b's entry is an orphan", async () => (await c.seen()).toSorted(), ["api healthy", "db orphaned", "web healthy"]);
    const nodesOnMap = async () => ((await a.door.ask("clusterMap", {})).response["nodes"] as unknown[]).length;
    await eventually("b is off the map", nodesOnMap, 2);
    const dead: unknown = [expect.objectContaining({ nodeId: "b", status: "PEER_STATUS_DEAD" })];
    await eventually("b is dead", async () => (await a.http("/control/peers?statuses=dead")).body["peers"], dead as JsonObject[]);

    // Back at the same address, with its disk.
    b = await start("b", ["--join", a.fabric, "--fabric-port", bPort, "--on-stop", "keep"]);
    for (const member of [a, b, c]) await eventually("healed", async () => (await member.seen()).toSorted(), CHECKED.toSorted());
    await eventually("b is a peer again", () => c.peers(), ["a alive", "b alive"]);

    // A rolling restart: nothing ends.
    await b.node.stop("SIGTERM");
    await eventually("b keeps its entry", async () => (await a.seen()).toSorted(), ["api healthy", "db orphaned", "web healthy"]);
    b = await start("b", ["--join", a.fabric, "--fabric-port", bPort]);
    await eventually("healed again", async () => (await a.seen()).toSorted(), CHECKED.toSorted());

    // A leave: what has a lease ends for everybody, and stays ended when it comes back; what has none is another node's.
    await c.register("leased", {}, { ttl: "60s" });
    await eventually("it is known", async () => (await a.seen()).includes("leased healthy"), true);
    await c.node.stop("SIGTERM");
    for (const member of [a, b]) await eventually("c's entry ended", async () => (await member.seen()).toSorted(), CHECKED.toSorted());
    await eventually("c left", () => a.peers(), ["b alive"]);
    c = await start("c", ["--join", a.fabric]);
    // When it is slow to join it serves alone first; what it ended is not to be seen at any time.
    const shown = new Set<string>();
    const seenBack = async () => {
      const seen = (await c.seen()).toSorted();
      for (const each of seen) shown.add(each);
      return seen;
    };
    await eventually("c has the others' entries", seenBack, CHECKED.toSorted());
    expect([...shown].filter((each) => each.startsWith("leased"))).toEqual([]);
  } finally {
    await b[Symbol.asyncDispose]();
    await c[Symbol.asyncDispose]();
  }
});

test("a node whose only seed is itself by another name serves alone after join_timeout", { tags: ["night"] }, async () => {
  await using before = await start("own", ["--ephemeral"]);
  const port = before.fabric.split(":")[1] ?? "";
  await before.node.stop("SIGKILL");
  await using own = await start("own", ["--ephemeral", "--fabric-port", port, "--join", `localhost:${port}`]);
  const { status, body } = await own.http("/readyz");
  expect([status, JSON.stringify(body)]).toEqual([200, expect.stringContaining("running alone; no other members")]);
});

test("without an answer from a seed a node serves alone after join_timeout, and joins when the seed comes", {
  tags: ["night"],
}, async () => {
  await using early = await start("early", ["--ephemeral"]);
  const port = early.fabric.split(":")[1] ?? "";
  await early.node.stop("SIGKILL");
  const nobody = await heldAddress(early.fabric);
  await using _ = await heldAddress(early.node.grpc);
  const began = performance.now();
  await using late = await start("late", ["--ephemeral", "--join", `127.0.0.1:${port},127.0.0.1:${early.node.grpc.split(":")[1]}`]);
  expect(performance.now() - began).toBeGreaterThan(900);
  const { status, body } = await late.http("/readyz");
  expect([status, JSON.stringify(body)]).toEqual([200, expect.stringContaining("no other members")]);
  await late.register("web");
  await nobody[Symbol.asyncDispose]();
  await using seed = await start("seed", ["--ephemeral", "--fabric-port", port]);
  await eventually("joined", () => seed.peers(), ["late alive"]);
  await eventually("replicated", () => seed.seen(), ["web healthy"]);
});

test("a node with another cluster's token, or without one, hears nothing and tells nothing; the token lets in", {
  tags: ["night"],
}, async () => {
  const token = join(HOME, "token");
  writeFileSync(token, "a-secret-of-this-cluster\n");
  const guarded = join(HOME, "guarded.json");
  writeFileSync(guarded, JSON.stringify({ fabric: { join_timeout: "1s", cluster_token_file: token } }));
  await using a = await start("a1", ["--ephemeral", "--config", guarded]);
  await using stranger = await startRefused("stranger", ["--join", `${a.fabric},${a.node.listeners["http"]}`]);
  await a.register("web");
  expect([await seenAt(stranger), await a.peers()]).toEqual([[], []]);
  const audited = async () => (await a.node.run(["audit", "list", "--reason", "wrong_token", "-o", "json"])).stdout;
  await eventually("audited", audited, expect.stringMatching(/mesh\.call_refused[^]*nodeId=stranger/) as string);
  await using friend = await start("friend", ["--ephemeral", "--config", guarded, "--join", a.fabric]);
  await eventually("the token lets in", () => friend.seen(), ["web healthy"]);
});

test("a cluster token is changed while nodes run: both are taken, then the new one alone", { tags: ["night"] }, async () => {
  const [old, next] = ["the-old-token-of-all", "the-new-token-of-all"];
  const files = ["k1", "k2", "k3"].map((name) => join(HOME, `${name}.token`));
  const [file1 = "", file2 = "", file3 = ""] = files;
  const guarded = (file: string, token: string): readonly string[] => {
    writeFileSync(file, `${token}\n`);
    writeFileSync(`${file}.json`, JSON.stringify({ fabric: { join_timeout: "1s", cluster_token_file: file } }));
    return ["--ephemeral", "--config", `${file}.json`];
  };
  await using a = await start("k1", guarded(file1, old));
  await using b = await start("k2", [...guarded(file2, old), "--join", a.fabric]);
  await a.register("web");
  await eventually("linked", () => b.seen(), ["web healthy"]);
  let reloads = 0;
  const change = async (content: string) => {
    reloads += 1;
    for (const [file, { node }] of [
      [file1, a],
      [file2, b],
    ] as const) {
      writeFileSync(file, content);
      node.command.kill("SIGHUP");
      const told = async () =>
        node.command.stderr.split("cluster token reload failed").length + node.command.stderr.split("cluster token reloaded").length;
      await eventually("reloaded", told, reloads + 2);
    }
  };
  await change(`${old}\n${next}\n`);
  await change(`${next}\n${old}\n`);
  await using c = await start("k3", [...guarded(file3, next), "--join", a.fabric]);
  await eventually("the new one lets in", () => c.seen(), ["web healthy"]);
  await change(`${next}\n`);
  await using late = await startRefused("k4", [...guarded(join(HOME, "k4.token"), old), "--join", a.fabric]);
  expect(await seenAt(late)).toEqual([]);
  await change("short\n");
  await b.register("db");
  await eventually("still together", async () => (await c.seen()).toSorted(), ["db healthy", "web healthy"]);
  for (const { command } of [a.node, b.node, c.node, late])
    for (const secret of [old, next, "short\n"]) expect(`${command.stdout}${command.stderr}`).not.toContain(secret);
});

test("scopes between two clusters of a region: LOCAL stays at its node, ZONE in its cluster, REGION goes to both", {
  tags: ["night"],
}, async () => {
  const c1 = ["--ephemeral", "--config", TWO, "--cluster-id", "c1", "--region", "r1"];
  await using a = await start("a2", c1);
  const [inside, outside] = await Promise.all([
    start("b2", [...c1, "--join", a.fabric]),
    start("z2", ["--ephemeral", "--config", TWO, "--cluster-id", "c2", "--region", "r1", "--join", a.fabric]),
  ]);
  await using b = inside;
  await using z = outside;
  for (const scope of ["LOCAL", "ZONE", "REGION"]) await a.register(scope.toLowerCase(), { scope: `SCOPE_${scope}` });
  await eventually("in the cluster", async () => (await b.seen()).toSorted(), ["region healthy", "zone healthy"]);
  await eventually("in the region", () => z.seen(), ["region healthy"]);
  expect((await a.seen()).toSorted()).toEqual(["local healthy", "region healthy", "zone healthy"]);
  // That `z` has what is told in the region does not say that `b` has heard of `z`.
  const inRegion = async () => (await b.door.ask("listPeers", { scope: "SCOPE_REGION" })).response["peers"];
  const z2: unknown = expect.objectContaining({ nodeId: "z2", clusterId: "c2", scope: "SCOPE_REGION" });
  await eventually("b knows z", inRegion, [z2] as JsonObject[]);
});

test("a node restored from a backup takes a new generation: what it has is there, what was taken out stays out", {
  tags: ["night"],
}, async () => {
  await using a = await start("a3");
  await using first = await start("b3", ["--join", a.fabric]);
  await first.register("old");
  await first.register("gone");
  await first.node.stop("SIGKILL");
  cpSync(join(HOME, "b3"), join(HOME, "b3-backup"), { recursive: true });
  await using second = await start("b3", ["--join", a.fabric]);
  const { response: before } = await second.door.ask("serverInfo");
  await second.register("later");
  await second.door.ask("unregister", { keys: [{ kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "gone", instanceId: "1" }] });
  await eventually("a has it all", async () => (await a.seen()).toSorted(), ["later healthy", "old healthy"]);
  await second.node.stop("SIGKILL");
  rmSync(join(HOME, "b3"), { recursive: true });
  cpSync(join(HOME, "b3-backup"), join(HOME, "b3"), { recursive: true });
  await using restored = await start("b3", ["--join", a.fabric, "--new-generation"]);
  await eventually(
    "a new generation",
    async () => (await restored.door.ask("serverInfo")).response["generation"] !== before["generation"],
    true,
  );
  for (const member of [a, restored])
    await eventually("the same everywhere", async () => (await member.seen()).toSorted(), ["later orphaned", "old healthy"]);
  await restored.register("fresh");
  await eventually("new ones arrive", async () => (await a.seen()).length, 3);
  expect((await a.seen()).toSorted()).toEqual(["fresh healthy", "later orphaned", "old healthy"]);
});

test("a restarted node serves at once what others told it, marked with its age, and refuses who wants it fresher", {
  tags: ["night"],
}, async () => {
  const often = join(HOME, "often.json");
  const fabric = { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s", snapshot_interval: "500ms" };
  writeFileSync(often, JSON.stringify({ fabric }));
  const address = await (async () => {
    await using a = await start("w1");
    await using b = await start("w2", ["--config", often, "--join", a.fabric]);
    await a.register("web");
    await eventually("replicated", () => b.seen(), ["web healthy"]);
    const snapshot = join(HOME, "w2", "replica.snapshot");
    await eventually("a snapshot of it", async () => existsSync(snapshot) && readFileSync(snapshot).includes("web"), true);
    await eventually("it is remembered", async () => remembers("w2", "w1"), true);
    await Promise.all([b.node.stop("SIGKILL"), a.node.stop("SIGKILL")]);
    return a.fabric;
  })();
  const nobody = await heldAddress(address);
  await using warm = await start("w2", ["--config", often, "--join", address]);
  expect((await warm.seen()).map((text) => text.split(" ")[0])).toEqual(["web"]);
  // At the end of the join time; where the node stood still, so much later.
  await eventually("nobody was met", () => warm.seen(), ["web orphaned"]);
  const { response } = await warm.door.ask("catalogQuery", { namespacePrefix: "svc" });
  expect(response["age"]).toMatch(/^(?:[1-9]\d*|0\.[5-9])/);
  const fresh = { namespacePrefix: "svc", maxStaleness: "0.1s" };
  expect(await warm.door.ask("catalogQuery", fresh)).toMatchObject({ code: "UNAVAILABLE", reason: "too_stale", retryMs: 1000 });
  await nobody[Symbol.asyncDispose]();
  await using back = await start("w1", ["--fabric-port", address.split(":")[1] ?? ""]);
  await eventually("healed", () => warm.seen(), ["web healthy"]);
  await eventually("fresh", async () => (await warm.door.ask("catalogQuery", fresh)).code, "OK");
  expect(await back.seen()).toEqual(["web healthy"]);
});

test("a node that is stopped writes a snapshot, and when it is back shows nothing as orphaned that was there all the time", {
  tags: ["night"],
}, async () => {
  await using a = await start("s1");
  await a.register("web");
  await using b = await start("s2", ["--join", a.fabric]);
  await eventually("replicated", () => b.seen(), ["web healthy"]);
  await b.node.stop("SIGTERM");
  expect(existsSync(join(HOME, "s2", "replica.snapshot"))).toBe(true);
  const talkative = join(HOME, "talkative.json");
  writeFileSync(talkative, JSON.stringify({ fabric: { interval: "400ms", ping_timeout: "250ms" }, observability: { log_level: "info" } }));
  await using again = await start("s2", ["--config", talkative, "--join", a.fabric]);
  expect(await again.seen()).toEqual(["web healthy"]);
  // All it says until its end: a line may come later than what it tells of.
  const { stdout, stderr } = await again.node.stop();
  expect(`${stdout}${stderr}`).toContain("restored the data of other nodes from the snapshot");
  expect(`${stdout}${stderr}`).not.toContain("origin_orphaned");
});

test("with certificates nodes are whom their certificates name; a stranger's is refused, and a node does not start with another's", {
  tags: ["night"],
}, async () => {
  const authority = new FabricAuthority();
  const files = (name: string, tls: FabricTls): string => {
    const at = (part: string, bytes: Uint8Array) => {
      const path = join(HOME, `${name}.${part}`);
      writeFileSync(path, bytes);
      return path;
    };
    const paths = { cert_file: at("cert", tls.cert), key_file: at("key", tls.key), ca_file: at("ca", tls.clientCa) };
    const config = join(HOME, `${name}.json`);
    writeFileSync(config, JSON.stringify({ fabric: { ...paths, join_timeout: "1s" } }));
    return config;
  };
  const flags = (nodeId: string, tls: FabricTls) => ["--ephemeral", "--cluster-id", "c1", "--config", files(nodeId, tls)];
  await using a = await start("t1", flags("t1", authority.issue("t1")));
  const [friend, stranger, plain, wrong] = await Promise.all([
    start("t2", [...flags("t2", authority.issue("t2")), "--join", a.fabric]),
    startRefused("t3", [...flags("t3", new FabricAuthority().issue("t3")), "--join", a.fabric]),
    startRefused("t4", ["--ephemeral", "--cluster-id", "c1", "--join", a.fabric]),
    waymarkProcess(["serve", ...onFreePorts(["--node-id", "t5", ...flags("t5", authority.issue("t6"))])]),
  ]);
  await using b = friend;
  await using c = stranger;
  await using d = plain;
  expect(wrong.exit).toBe(2);
  expect(wrong.stderr).toMatch(/fabric\.cert_file.*belongs to node t6.*this is node t5/);
  await a.register("web");
  await eventually("the friend has it", () => b.seen(), ["web healthy"]);
  expect([await a.peers(), await seenAt(c), await seenAt(d)]).toEqual([["t2 alive"], [], []]);
  // A renewed certificate counts from SIGHUP on; one of another node leaves what was.
  files("t1", authority.issue("t9"));
  a.node.command.kill("SIGHUP");
  await a.node.command.errorLine(
    /fabric certificate reload failed.*belongs to node t9|belongs to node t9.*fabric certificate reload failed/,
  );
  files("t1", authority.issue("t1"));
  a.node.command.kill("SIGHUP");
  await a.node.command.errorLine(/fabric certificates reloaded/);
  await a.register("db");
  await eventually("still linked", async () => (await b.seen()).toSorted(), ["db healthy", "web healthy"]);
});

test("what was restored keeps its age through another restart while nobody is there to catch up with", { tags: ["night"] }, async () => {
  const often = join(HOME, "often2.json");
  const fabric = { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s", snapshot_interval: "300ms" };
  writeFileSync(often, JSON.stringify({ fabric }));
  const snapshot = join(HOME, "v2", "replica.snapshot");
  await using a = await start("v1");
  const rejoin = ["--config", often, "--join", a.fabric];
  {
    await using b = await start("v2", rejoin);
    await a.register("web");
    await eventually("a snapshot of it", async () => existsSync(snapshot) && readFileSync(snapshot).includes("web"), true);
    await Promise.all([a.node.stop("SIGKILL"), b.node.stop("SIGKILL")]);
  }
  await using _ = await heldAddress(a.fabric);
  const lostMs = Date.now();
  {
    const { ino } = statSync(snapshot);
    await using alone = await start("v2", rejoin);
    await eventually("a snapshot of the second life", async () => statSync(snapshot).ino !== ino, true);
    await alone.node.stop("SIGKILL");
  }
  await using again = await start("v2", rejoin);
  const awayMs = Date.now() - lostMs;
  const { response } = await again.door.ask("catalogQuery", { namespacePrefix: "svc" });
  expect(response["items"]).toHaveLength(1);
  expect(Number.parseFloat(response["age"] as string) * 1000).toBeGreaterThanOrEqual(awayMs);
});

test("what a leaver handed over and what ended with it is in its audit; the other one counts what it took", {
  tags: ["night"],
}, async () => {
  await using a = await start("t1");
  const b = await start("t2", ["--join", a.fabric]);
  for (const name of ["web", "db"]) await b.register(name);
  await b.register("here", { scope: "SCOPE_LOCAL" });
  await eventually("replicated", async () => (await a.seen()).toSorted(), ["db healthy", "web healthy"]);
  await b.node.stop("SIGTERM");
  const metrics = await (await fetch(`http://${a.node.listeners["http"]}/metrics`)).text();
  expect(metrics).toMatch(/^mesh_taken_over_entries_total 2$/m);
  await using again = await start("t2", ["--join", a.fabric]);
  const { stdout } = await again.node.run(["audit", "list", "-o", "json"]);
  expect(stdout).toContain("mesh.static_entries_handed_over");
  expect(stdout).toContain("takenCount=2 leftCount=0 localEndedCount=1");
});

test("the last node of its cluster keeps everything too when it stops, though nodes of other clusters are members", {
  tags: ["night"],
}, async () => {
  await using other = await start("x1", ["--ephemeral", "--config", TWO, "--cluster-id", "c1"]);
  const flags = ["--config", TWO, "--cluster-id", "c2", "--join", other.fabric];
  await using last = await start("x2", flags);
  await last.register("web");
  const members = async () => (await last.http("/control/peers?statuses=alive")).body["peers"];
  const both = expect.arrayContaining([expect.objectContaining({ nodeId: "x1" })]) as unknown;
  await eventually("a member of another cluster", members, both);
  await last.node.stop("SIGTERM");
  await using again = await start("x2", flags);
  expect(await again.seen()).toEqual(["web healthy"]);
});

test("alone a node keeps everything when it stops, whatever --on-stop says", { tags: ["night"] }, async () => {
  await using a = await start("solo");
  await a.register("web");
  await a.node.stop("SIGTERM");
  await using again = await start("solo");
  expect(await again.seen()).toEqual(["web healthy"]);
});

test("a node is not stale for having been restarted alone: neither one that never had others, nor the last when the others have left", {
  tags: ["night"],
}, async () => {
  const isFresh = async (member: Member) => {
    const { code, response } = await member.door.ask("catalogQuery", { namespacePrefix: "svc", maxStaleness: "0s" });
    expect([code, response["age"], response["items"]]).toEqual(["OK", "0s", [expect.anything()]]);
    expect(await (await fetch(`http://${member.node.listeners["http"]}/metrics`)).text()).toMatch(
      /^mesh_replication_lag_seconds(\{.*\})? 0$/m,
    );
  };
  const a = await start("lone");
  await a.register("web");
  await a.node.stop("SIGTERM");
  await using again = await start("lone");
  await isFresh(again);
  const b = await start("guest", ["--join", again.fabric]);
  await b.register("db", {}, { ttl: "60s" });
  await eventually("both", async () => (await again.seen()).toSorted(), ["db healthy", "web healthy"]);
  await eventually("the guest is remembered", async () => remembers("lone", "guest"), true);
  await b.node.stop("SIGTERM");
  await eventually("what the guest had is ended", () => again.seen(), ["web healthy"]);
  await eventually("who has left is not remembered", async () => remembers("lone", "guest"), false);
  await again.node.stop("SIGTERM");
  await using last = await start("lone");
  expect(existsSync(join(HOME, "lone", "replica.snapshot"))).toBe(true);
  await isFresh(last);
});
