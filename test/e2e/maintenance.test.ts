/** Maintenance at real nodes: an order goes to the node of the entry, and stays with the key (semantics.md, Maintenance). */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dig, isDigThere, recordsIn } from "../fakes/dig.ts";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-maintenance-"));
const CONFIG = join(HOME, "node.json");

beforeAll(() => {
  const token = join(HOME, "cluster.token");
  writeFileSync(token, "a-token-of-the-maintenance-tests\n", { mode: 0o600 });
  const fabric = { interval: "400ms", ping_timeout: "250ms", join_timeout: "20s", cluster_token_file: token };
  writeFileSync(CONFIG, JSON.stringify({ fabric }));
});
afterAll(() => {
  rmSync(HOME, { recursive: true, force: true });
});

function start(nodeId: string, peers: readonly NodeProcess[] = [], flags: readonly string[] = []): Promise<NodeProcess> {
  const joins = peers.length === 0 ? [] : ["--join", peers.map((peer) => peer.listeners["fabric"] ?? "").join()];
  return startNodeProcess(["--node-id", nodeId, "--data-dir", join(HOME, nodeId), "--config", CONFIG, ...joins, ...flags]);
}

const keyOf = (instanceId: string) => ({ kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "web", instanceId });

async function register(door: GrpcDoor, instanceId: string): Promise<void> {
  const entry = { key: keyOf(instanceId), targets: [{ host: `10.0.0.${instanceId}`, port: 80 }] };
  expect((await door.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
}

/** Each entry as `instance@node health reason`. */
async function seen(door: GrpcDoor): Promise<readonly string[]> {
  const { response } = await door.ask("catalogQuery", { namespace: "svc.market" });
  return ((response["items"] ?? []) as JsonObject[]).map((item) => {
    const key = item["key"] as JsonObject;
    const reason = textOf((item["maintenance"] as JsonObject | undefined)?.["reason"]);
    return `${textOf(key["instanceId"])}@${textOf(item["nodeId"])} ${textOf(item["health"]).replace("HEALTH_STATUS_", "")} ${reason}`.trim();
  });
}

async function shows(doors: readonly GrpcDoor[], want: readonly string[]): Promise<void> {
  for (const door of doors)
    await until(`it shows ${want.join()}`, async () => {
      const found = await seen(door);
      return JSON.stringify(found) === JSON.stringify(want) ? [] : found;
    });
}

function set(door: GrpcDoor, request: JsonValue) {
  return door.ask("setMaintenance", request);
}

test("an order at one node for an entry of another: seen everywhere, through a restart, a move of the key, and until it is ended", {
  tags: ["night"],
}, async () => {
  await using a = await start("a");
  let b = await start("b", [a]);
  try {
    using atA = new GrpcDoor(a.grpc);
    const atB = new GrpcDoor(b.grpc);
    await register(atB, "1");
    await register(atB, "2");
    await shows([atA], ["1@b HEALTHY", "2@b HEALTHY"]);

    expect((await set(atA, { keys: [keyOf("1")], on: true, reason: "new disks" })).response).toEqual({ changed: "1" });
    expect((await set(atA, { keys: [keyOf("1")], on: true, reason: "new disks" })).response).toEqual({ unchanged: "1" });
    await shows([atA, atB], ["1@b MAINTENANCE new disks", "2@b HEALTHY"]);
    const { response } = await atA.ask("resolve", { namespace: "svc.market", name: "web" });
    expect(((response["entry"] as JsonObject)["key"] as JsonObject)["instanceId"]).toBe("2");
    if (isDigThere()) {
      const answer = await dig(a.listeners["dns"] ?? "", "+noall", "+answer", "A", "web.svc.market.waymark");
      expect(recordsIn(answer).join()).toMatch(/10\.0\.0\.2$/);
      expect(recordsIn(answer)).toHaveLength(1);
    }

    atB[Symbol.dispose]();
    await b.stop("SIGKILL");
    await b[Symbol.asyncDispose]();
    const away = await set(atA, { keys: [keyOf("2"), keyOf("9")], on: true });
    expect(away.response).toMatchObject({
      refused: "2",
      refusals: [
        { key: keyOf("2"), reason: "REASON_ORIGIN_AWAY", retryAfter: "5s" },
        { key: keyOf("9"), reason: "REASON_NOT_FOUND" },
      ],
    });
    b = await start("b", [a]);
    using again = new GrpcDoor(b.grpc);
    await shows([atA, again], ["1@b MAINTENANCE new disks", "2@b HEALTHY"]);

    await register(atA, "1");
    await shows([atA, again], ["1@a MAINTENANCE new disks", "2@b HEALTHY"]);
    expect((await set(again, { keys: [keyOf("1"), keyOf("2")], on: false })).response).toEqual({ changed: "1", unchanged: "1" });
    await shows([atA, again], ["1@a HEALTHY", "2@b HEALTHY"]);
    // Back where an older order is known, the end of it counts.
    await register(again, "1");
    await shows([atA, again], ["1@b HEALTHY", "2@b HEALTHY"]);

    const node = await a.run(["discovery", "maintenance", "on", "--node", "b", "--reason", "kernel", "-o", "json"]);
    expect([node.exit, JSON.parse(node.stdout)]).toEqual([0, { changed: "2", refusals: [] }]);
    await shows([atA, again], ["1@b MAINTENANCE kernel", "2@b MAINTENANCE kernel"]);
    const all = await atA.ask("resolve", { namespace: "svc.market", name: "web" });
    expect(all.reason).toBe("in_maintenance");
    const ended = await a.run(["discovery", "maintenance", "off", "svc.market/web/1", "svc.market/web/2", "svc.market/web/9"]);
    expect([ended.exit, ended.stderr]).toEqual([5, expect.stringContaining("svc.market web 9: not-found: no such entry is registered")]);
    await shows([atA, again], ["1@b HEALTHY", "2@b HEALTHY"]);

    const soon = new Date(Date.now() + 3000).toISOString();
    expect((await set(atA, { keys: [keyOf("1")], on: true, until: soon })).response).toEqual({ changed: "1" });
    await shows([again], ["1@b MAINTENANCE", "2@b HEALTHY"]);
    await shows([atA, again], ["1@b HEALTHY", "2@b HEALTHY"]);
    const audit = await a.run(["audit", "list", "--kind", "access", "--namespace", "svc.market", "-o", "json"]);
    expect(audit.stdout).toContain("maintenance on for svc.market/web/1 without an end time; new disks");
    const ofNodes = await a.run(["audit", "list", "--kind", "access", "-o", "json"]);
    expect((JSON.parse(ofNodes.stdout) as { readonly records: readonly unknown[] }).records).toContainEqual(
      expect.objectContaining({ subjects: ["node:b"], detail: "maintenance on for node b, 2 entries without an end time; kernel" }),
    );
  } finally {
    await b[Symbol.asyncDispose]();
  }
});

test("a node hands its static entries over with their orders", { tags: ["night"] }, async () => {
  await using a = await start("over-a");
  await using b = await start("over-b", [a], ["--on-stop", "leave"]);
  using atA = new GrpcDoor(a.grpc);
  using atB = new GrpcDoor(b.grpc);
  await register(atB, "1");
  expect((await set(atB, { keys: [keyOf("1")], on: true, reason: "moving" })).response).toEqual({ changed: "1" });
  await shows([atA], ["1@over-b MAINTENANCE moving"]);
  await b.stop();
  await shows([atA], ["1@over-a MAINTENANCE moving"]);
  await set(atA, { keys: [keyOf("1")], on: false });
  await shows([atA], ["1@over-a HEALTHY"]);
});
