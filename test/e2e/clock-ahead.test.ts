/** Nodes whose clock is a day ahead (faketime's library): what their words end is told, and such a node takes no writes. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const isThere = existsSync(LIBRARY);
const skipped = isThere ? "" : " (skipped: needs libfaketime)";
const A_DAY_AHEAD = ["env", `LD_PRELOAD=${LIBRARY}`, "FAKETIME=+1d", "FAKETIME_DONT_FAKE_MONOTONIC=1"];

const HOME = mkdtempSync(join(tmpdir(), "waymark-ahead-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const CONFIG = join(HOME, "node.json");
// An answer that comes after `ping_timeout` says nothing of a clock, and a start compares clocks for 3 s at most.
const FABRIC = { interval: "1500ms", ping_timeout: "1s", join_timeout: "20s" };
writeFileSync(CONFIG, JSON.stringify({ fabric: FABRIC, observability: { log_level: "warn" } }));

const start = (nodeId: string, more: readonly string[] = [], wrapper: readonly string[] = []) =>
  startNodeProcess(["--node-id", nodeId, "--config", CONFIG, "--data-dir", join(HOME, nodeId), ...more], wrapper);
const fabricOf = ({ listeners }: NodeProcess) => listeners["fabric"] ?? "";
const keyOf = (name: string) => ({ kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" });

async function register(node: NodeProcess, names: readonly string[], how: { readonly staticLease: true } | { readonly ttl: string }) {
  using door = new GrpcDoor(node.grpc);
  const { code, reason, response } = await door.ask("register", { entries: names.map((name) => ({ key: keyOf(name) })), ...how });
  return { code, reason, leaseId: textOf(response["leaseId"]) };
}

async function namesAt(node: NodeProcess): Promise<readonly string[]> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  return ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name).toSorted();
}

test.skipIf(!isThere)(
  `an unregister stamped a day ahead ends what was registered after it: clients and operators are told${skipped}`,
  { tags: ["night"] },
  async () => {
    {
      await using ahead = await start("ahead", [], A_DAY_AHEAD);
      await register(ahead, ["one", "two", "still"], { staticLease: true });
      using door = new GrpcDoor(ahead.grpc);
      expect((await door.ask("unregister", { keys: ["one", "two", "still"].map(keyOf) })).response["removed"]).toBe(3);
      await ahead.stop("SIGKILL");
    }
    await using right = await start("right");
    const alone = await register(right, ["one"], { ttl: "600s" });
    const several = await register(right, ["two", "other"], { ttl: "600s" });
    expect((await register(right, ["still"], { staticLease: true })).code).toBe("OK");
    expect(await namesAt(right)).toEqual(["one", "other", "still", "two"]);
    using door = new GrpcDoor(right.grpc);
    const gone = async () => (await door.ask("renew", { leaseIds: [alone.leaseId, several.leaseId] })).response["expiredLeaseIds"] ?? [];
    expect(await gone()).toEqual([]);

    await using ahead = await start("ahead", ["--join", fabricOf(right)], A_DAY_AHEAD);
    await expect.poll(() => namesAt(right)).toEqual(["other"]);
    // Who had them renews, learns it, and registers again: above what it did not know of before.
    await expect.poll(gone).toEqual([alone.leaseId, several.leaseId]);
    await register(right, ["one"], { ttl: "600s" });
    await register(right, ["two", "other"], { ttl: "600s" });
    for (const node of [right, ahead]) await expect.poll(() => namesAt(node)).toEqual(["one", "other", "two"]);
    // A static entry has nobody who renews it.
    expect(JSON.parse((await right.run(["discovery", "status", "-o", "json"])).stdout)).toMatchObject({ staticEntriesEnded: "1" });
    const metrics = await (await fetch(`http://${right.listeners["http"]}/metrics`)).text();
    expect(metrics).toMatch(/^mesh_events_total\{event="static_entry_ended"\} 1$/m);
    const audit = async () => (await right.run(["audit", "list", "-o", "json"])).stdout;
    await expect.poll(audit).toContain("mesh.static_entry_ended");
    expect(await audit()).toContain("name=still");
  },
);

test.skipIf(!isThere)(
  `a node whose clock is a day ahead of two others takes no writes and is not ready; leases there go on${skipped}`,
  { tags: ["night"] },
  async () => {
    const before = await (async () => {
      await using alone = await start("c", [], A_DAY_AHEAD);
      return await register(alone, ["early"], { ttl: "600s" });
    })();
    await using a = await start("a");
    await using b = await start("b", ["--join", fabricOf(a)]);
    await using ahead = await start("c", ["--join", fabricOf(a)], A_DAY_AHEAD);
    const ready = async (node: NodeProcess) => (await fetch(`http://${node.listeners["http"]}/readyz`)).status;
    // At once: what it took before it had heard the others' clocks would win over what they write for a day.
    expect(await register(ahead, ["late"], { ttl: "600s" })).toMatchObject({ code: "UNAVAILABLE", reason: "clock_skew" });
    expect(await ready(ahead)).toBe(503);
    expect(ahead.command.stdout).toMatch(/^\{"event":"not_ready","fault":"this node refuses writes because its clock is 86\d{3} s ahead/);
    await ahead.command.errorLine(/node started but is not ready/);
    using door = new GrpcDoor(ahead.grpc);
    expect((await door.ask("unregister", { keys: [keyOf("early")] })).reason).toBe("clock_skew");
    expect((await door.ask("renew", { leaseIds: [before.leaseId] })).response).not.toHaveProperty("expiredLeaseIds");
    const page = (await (await fetch(`http://${ahead.listeners["http"]}/readyz`)).json()) as { checks: { name: string; detail: string }[] };
    expect(page.checks.find(({ name }) => name === "clock")?.detail).toMatch(
      /^this node refuses writes because its clock is 86\d{3} s ahead of 2 of 2/,
    );
    const policy = await ahead.run(["namespace", "policy", "apply", "-"], "version: v1\nrules:\n  - namespace: shop\n");
    expect([policy.exit === 0, policy.stderr]).toEqual([false, expect.stringContaining("clock_skew")]);
    // The others are right, and go on.
    for (const node of [a, b])
      expect([await ready(node), (await register(node, [node.nodeId], { ttl: "600s" })).code]).toEqual([200, "OK"]);
  },
);

test.skipIf(!isThere)(`a node whose clock stands in 2150 is not ready and says why, also alone${skipped}`, async () => {
  await using node = await start(
    "far",
    [],
    ["env", `LD_PRELOAD=${LIBRARY}`, "FAKETIME=@2150-01-01 00:00:00", "FAKETIME_DONT_FAKE_MONOTONIC=1"],
  );
  await expect.poll(async () => (await fetch(`http://${node.listeners["http"]}/readyz`)).status).toBe(503);
  const page = (await (await fetch(`http://${node.listeners["http"]}/readyz`)).json()) as { checks: { name: string; detail: string }[] };
  expect(page.checks.find(({ name }) => name === "clock")?.detail).toMatch(
    /^this node refuses writes because its clock is in the year 2100 or later: correct the clock/,
  );
  expect(await register(node, ["late"], { ttl: "600s" })).toMatchObject({ code: "UNAVAILABLE", reason: "clock_skew" });
  expect(node.command.stderr).not.toMatch(/\n\s+at .*registrar/);
});
