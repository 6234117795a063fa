/** A node with read workers, through its doors: whichever thread a connection reaches, it is the same node. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { beforeAll, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { dig, isDigThere } from "../fakes/dig.ts";
import { EventReader } from "../fakes/event-reader.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";

const WORKERS = ["--workers", "2"];
/** Connections that reach both workers, but for one run in two thousand. */
const DOORS = 12;

function doorsOf(node: NodeProcess): readonly GrpcDoor[] {
  return Array.from({ length: DOORS }, () => new GrpcDoor(node.grpc));
}

/** Clients with a connection each. */
function clientsOf(node: NodeProcess) {
  return Array.from({ length: DOORS }, () => createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${node.grpc}` })));
}

const entry = (name: string, namespace = "svc.shop") => ({
  key: { namespace, name, instanceId: "1" },
  targets: [{ host: "192.0.2.1", port: 80 }],
});

async function namesAt(door: GrpcDoor, namespace = "svc.shop"): Promise<readonly string[]> {
  const { code, response } = await door.ask("catalogQuery", { namespace });
  expect(code).toBe("OK");
  return ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name);
}

/** For tests with a namespace of their own. */
let shared: NodeProcess;
beforeAll(async () => {
  shared = await startNodeProcess(["--ephemeral", ...WORKERS]);
  return () => shared[Symbol.asyncDispose]();
});

test("what is written through one connection is found through every other as soon as the write is answered", async () => {
  const doors = doorsOf(shared);
  for (let i = 0; i < 3 * DOORS; i++) {
    const written = await doors[i % DOORS]?.ask("register", { entries: [entry(`w${i}`, "svc.written")], staticLease: true });
    expect(written?.code).toBe("OK");
    for (const names of await Promise.all(doors.map((door) => namesAt(door, "svc.written")))) expect(names).toContain(`w${i}`);
  }
  const keys = Array.from({ length: 3 * DOORS }, (_, i) => ({ kind: 1, namespace: "svc.written", name: `w${i}`, instanceId: "1" }));
  expect(await doors[0]?.ask("unregister", { keys })).toMatchObject({ code: "OK", response: { removed: 3 * DOORS } });
  expect(await Promise.all(doors.map((door) => namesAt(door, "svc.written")))).toEqual(doors.map(() => []));
  const revisions = await Promise.all(doors.map((door) => door.revision()));
  expect(new Set(revisions).size).toBe(1);
  for (const door of doors) door[Symbol.dispose]();
});

test("a watch goes on at any worker, from the short cursor that another gave out", async () => {
  const clients = clientsOf(shared);
  const [writer] = clients;
  await writer?.register({ entries: [entry("first", "svc.watched")], staticLease: true });
  let cursor = (await writer?.catalogQuery({ namespace: "svc.watched" }))?.cursor ?? "";
  expect(cursor).toMatch(/^s2\./);
  for (const [i, client] of clients.entries()) {
    await writer?.register({ entries: [entry(`next${i}`, "svc.watched")], staticLease: true });
    const ended = new AbortController();
    const told: string[] = [];
    for await (const message of client.catalogWatch({ namespace: "svc.watched", cursor }, { signal: ended.signal })) {
      expect(message.snapshot).toBe(Snapshot.UNSPECIFIED);
      for (const { payload } of message.deltas) if (payload.case === "entry") told.push(payload.value.key?.name ?? "");
      cursor = message.cursor;
      if (told.length > 0) break;
    }
    ended.abort();
    expect(told).toEqual([`next${i}`]);
  }
});

test("every worker sends the changes of members as server-sent events", async () => {
  for (let i = 0; i < DOORS; i++) {
    using events = new EventReader({ base: `http://${shared.listeners["http"]}`, path: "/control/events/peers", version: "1.1" });
    await events.reads("event: end\n");
    expect(events.events.map(({ event }) => event)).toEqual(["begin", "continue", "end"]);
  }
});

test("a policy is in force at every worker when it is applied", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral", ...WORKERS]);
  const doors = doorsOf(node);
  await doors[0]?.ask("register", { entries: [entry("hidden")], staticLease: true });
  const home = mkdtempSync(join(tmpdir(), "waymark-workers-"));
  try {
    for (let round = 0; round < 4; round++) {
      const isHidden = round % 2 === 0;
      const file = join(home, "policy.yaml");
      const rule = { namespace: "svc.shop", visibility_tenants: isHidden ? ["nobody"] : [], policy_version: `v${round}` };
      writeFileSync(file, JSON.stringify({ version: `v${round}`, default_allow: true, rules: [rule] }));
      const applied = await node.run(["namespace", "policy", "apply", file, "--reason", "test"]);
      expect(applied).toMatchObject({ exit: 0 });
      expect(await Promise.all(doors.map((door) => namesAt(door)))).toEqual(doors.map(() => (isHidden ? [] : ["hidden"])));
    }
  } finally {
    rmSync(home, { recursive: true });
  }
  for (const door of doors) door[Symbol.dispose]();
});

test("one scrape has the sum of all threads, at whichever worker it arrives", async () => {
  await using node = await startNodeProcess(["--ephemeral", ...WORKERS]);
  const doors = doorsOf(node);
  for (let i = 0; i < 5 * DOORS; i++) await doors[i % DOORS]?.ask("catalogQuery", { namespace: "svc.shop" });
  const line = /^rpc_requests_total\{[^}]*method="CatalogQuery",code="OK"[^}]*transport="grpc"[^}]*\} (\d+)$/m;
  for (let i = 0; i < 6; i++) {
    const text = await (await fetch(`http://${node.listeners["http"]}/metrics`, { headers: { connection: "close" } })).text();
    expect(line.exec(text)?.[1]).toBe(`${5 * DOORS}`);
    expect(/^waymark_connections\{listener="grpc"\} (\d+)$/m.exec(text)?.[1]).toBe(`${DOORS}`);
  }
  for (const door of doors) door[Symbol.dispose]();
});

test("what a node says of its journal and of its readiness is true at this moment, at whichever worker one asks", {
  tags: ["night"],
}, async () => {
  await using node = await startNodeProcess(["--ephemeral", ...WORKERS]);
  const http = node.listeners["http"] ?? "";
  const ask = async (path: string) => (await fetch(`http://${http}${path}`, { headers: { connection: "close" } })).json();
  using door = new GrpcDoor(node.grpc);
  let before = -1;
  for (let i = 0; i < DOORS; i++) {
    await door.ask("register", { entries: [entry(`w${i}`)], staticLease: true });
    const { lastSeq } = (await ask("/metrics/persistence")) as { readonly lastSeq: number };
    expect(lastSeq).toBeGreaterThan(before);
    before = lastSeq;
    expect(await ask("/readyz")).toMatchObject({ status: "ready" });
  }
  const { response } = await door.ask("serverInfo", {});
  expect(response["listeners"]).toEqual(node.listeners);
});

test("a node that has nobody beside it is never old, also when it stood still", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral", ...WORKERS]);
  const doors = doorsOf(node);
  await doors[0]?.ask("register", { entries: [entry("one")], staticLease: true });
  for (const names of await Promise.all(doors.map((door) => namesAt(door)))) expect(names).toEqual(["one"]);
  for (let round = 0; round < 3; round++) {
    node.command.kill("SIGSTOP");
    const asked = doors.map((door) => door.ask("catalogQuery", { namespace: "svc.shop", maxStaleness: "0s" }));
    // Longer than a worker takes what the main thread told it for new.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    node.command.kill("SIGCONT");
    for (const { code, message, response } of await Promise.all(asked)) expect([code, message, response["age"]]).toEqual(["OK", "", "0s"]);
  }
  for (const door of doors) door[Symbol.dispose]();
});

test("the ports of a node with workers are taken for every other node, with workers or without", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral", ...WORKERS]);
  const port = node.grpc.split(":").at(-1) ?? "";
  for (const workers of ["0", "2"]) {
    const free = ["--http-port", "0", "--dns-port", "0", "--fabric-port", "0", "--ephemeral"];
    const second = await waymarkProcess(["serve", ...free, "--grpc-port", port, "--workers", workers]);
    expect(second.exit).not.toBe(0);
    expect(second.stderr).toContain(port);
    expect(second.stderr).toContain("address already in use");
  }
});

test("a node with workers that stops ends its watches with a portable cursor, and calls under way are answered", async () => {
  const node = await startNodeProcess(["--ephemeral", ...WORKERS]);
  const clients = clientsOf(node);
  await clients[0]?.register({ entries: [entry("one")], staticLease: true });
  const last = clients.map(async (client) => {
    let portable = "";
    let wasTold = false;
    try {
      for await (const message of client.catalogWatch({ namespace: "svc.shop" })) {
        portable = message.portableCursor;
        wasTold ||= message.snapshot === Snapshot.END;
        if (wasTold) heard();
      }
      return { portable, reason: "ok" };
    } catch (error) {
      const [info] = ConnectError.from(error).findDetails(ErrorInfoSchema);
      return { portable, reason: info?.reason };
    }
  });
  let count = 0;
  const all = Promise.withResolvers<void>();
  function heard(): void {
    count += 1;
    if (count === DOORS) all.resolve();
  }
  await all.promise;
  const { exit } = await node.stop();
  expect(exit).toBe(0);
  for (const { reason, portable } of await Promise.all(last)) {
    expect(reason).toBe("DRAINING");
    expect(portable).toMatch(/^p1\./);
  }
});

test.skipIf(!isDigThere())("DNS is answered by every worker", async () => {
  using door = new GrpcDoor(shared.grpc);
  await door.ask("register", { entries: [entry("web", "svc.named")], staticLease: true });
  for (let i = 0; i < 8; i++) expect(await dig(shared.listeners["dns"] ?? "", "web.svc.named.waymark", "SRV")).toContain("NOERROR");
});

test("a burst over connections to all workers is held to the limit of one node", { tags: ["night"] }, async () => {
  await using node = await startNodeProcess(["--ephemeral", ...WORKERS], ["env", "WAYMARK_LIMITS__READS_PER_MINUTE=300"]);
  const doors = doorsOf(node);
  const writer = await doors[0]?.ask("register", { entries: [entry("web")], staticLease: true });
  expect(writer?.code).toBe("OK");
  const startMonoMs = performance.now();
  const answers = await Promise.all(
    doors.flatMap((door) => Array.from({ length: 75 }, () => door.ask("catalogQuery", { namespace: "svc.shop" }))),
  );
  const cameBack = Math.ceil(((performance.now() - startMonoMs) * 300) / 60_000);
  const admitted = answers.filter(({ code }) => code === "OK").length;
  expect(admitted).toBeGreaterThanOrEqual(300);
  expect(admitted).toBeLessThanOrEqual(300 + cameBack);
  for (const door of doors) door[Symbol.dispose]();
});
