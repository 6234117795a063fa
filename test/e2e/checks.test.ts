/** Checks of entries on real nodes: what a watch at another node is told when programs stop and come back, and what is refused. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, afterEach, expect, test } from "vitest";
import { GrpcDoor, goodEntry, textOf } from "../fakes/node.ts";
import { CommandProcess, type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { answering, closeServers, healthServer } from "../fakes/probed-servers.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-checks-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
afterEach(closeServers);

const ON = join(HOME, "on.json");
writeFileSync(ON, JSON.stringify({ checks: { enabled: true, allowed: ["127.0.0.1"] } }));
const ALONE = join(HOME, "alone.json");
writeFileSync(ALONE, JSON.stringify({ checks: { enabled: true, allowed: ["127.0.0.1"] }, fabric: { enabled: false } }));
const OK = "HTTP/1.1 200 OK\r\n\r\n";
const FAST = { interval: "1s", failing: 1 };

function start(nodeId: string, ...flags: readonly string[]): Promise<NodeProcess> {
  return startNodeProcess(["--node-id", nodeId, "--cluster-id", "c1", ...flags]);
}

async function detailOf(node: NodeProcess): Promise<string> {
  const page = (await (await fetch(`http://${node.listeners["http"]}/readyz`)).json()) as { checks: { name: string; detail: string }[] };
  return page.checks.find(({ name }) => name === "checks")?.detail ?? "";
}

const metricsOf = async (node: NodeProcess): Promise<string> => (await fetch(`http://${node.listeners["http"]}/metrics`)).text();

async function items(door: GrpcDoor): Promise<readonly JsonObject[]> {
  const { response } = await door.ask("catalogQuery", { namespace: "svc.market" });
  return (response["items"] ?? []) as JsonObject[];
}

async function register(door: GrpcDoor, entry: JsonObject) {
  const { code, reason, fields, message } = await door.ask("register", { entries: [entry], staticLease: true });
  return { code, reason, fields, rule: /checks\.[a-z]+(?=[ :])/.exec(message)?.[0] };
}

test("servers of HTTP and gRPC stop and come back: a watch at another node is told each turn once, with the class of the failure", {
  tags: ["night"],
}, async () => {
  let isUp = true;
  const services = new Map([["web", 1]]);
  const web = await answering((socket) => socket.end(isUp ? OK : "HTTP/1.1 503 secret words\r\n\r\n"));
  const health = await healthServer(services);
  await using a = await start("a", "--ephemeral", "--config", ON);
  await using b = await start("b", "--ephemeral", "--join", a.listeners["fabric"] ?? "");
  using atA = new GrpcDoor(a.grpc);
  using atB = new GrpcDoor(b.grpc);
  const targets = [
    { name: "http", host: "127.0.0.1", port: web.port },
    { name: "grpc", host: "127.0.0.1", port: health.port },
  ];
  const checks = [
    { ...FAST, target: "http", http: { path: "/healthz" } },
    { ...FAST, target: "grpc", grpc: { service: "web" } },
  ];
  expect(await register(atA, goodEntry({ targets, checks }))).toMatchObject({ code: "OK" });
  const watch = ["discovery", "watch", "--server", b.grpc, "--namespace", "svc.market", "-o", "json"];
  await using watching = new CommandProcess(watch);
  /** The health of the entry and of its checks, as each delta said. */
  const told = () =>
    watching.stdout.split("\n").flatMap((line) => {
      const healths = [...line.matchAll(/"(?:health|failure)":\s*"(?:HEALTH_STATUS|CHECK_FAILURE)_([A-Z_]+)"/g)].map(([, word]) => word);
      return healths.length === 0 ? [] : [healths.join(" ")];
    });
  const turned = (what: string, last: string) => until(what, () => (told().at(-1) === last ? true : [told().join(" | ")]));
  await turned("both pass", "HEALTHY HEALTHY HEALTHY");
  isUp = false;
  await turned("the server of HTTP is away", "CRITICAL CRITICAL STATUS HEALTHY");
  services.set("web", 2);
  await turned("both are away", "CRITICAL CRITICAL STATUS CRITICAL NOT_SERVING");
  isUp = true;
  services.set("web", 1);
  await turned("both are back", "HEALTHY HEALTHY HEALTHY");
  expect(watching.stdout + a.command.stderr).not.toContain("secret words");
  expect(new Set(told().slice(1)).size).toBeLessThanOrEqual(8);
  // What a program reports of itself is kept apart.
  const key = { namespace: "svc.market", name: "web", instanceId: "web-1" };
  expect((await atA.ask("renew", { reports: [{ key, health: "HEALTH_STATUS_DEGRADED" }] })).code).toBe("OK");
  await until("the report is told elsewhere", async () => {
    const [entry] = await items(atB);
    return entry?.["health"] === "HEALTH_STATUS_DEGRADED" && entry["reportedHealth"] === "HEALTH_STATUS_DEGRADED";
  });
  expect(await detailOf(a)).toBe("2 passing, 0 failing, 0 unknown");
  expect(await detailOf(b)).toBe("");
  const metrics = await metricsOf(a);
  expect(metrics).toMatch(/^waymark_checks\{state="passing"\} 2$/m);
  expect(metrics).toMatch(/^waymark_checks_doubting(\{\})? 0$/m);
  expect(metrics).toMatch(/^waymark_check_outcomes_total\{outcome="failed"\} [1-9]/m);
});

test("what no check may reach is refused with its field, also by a node that runs checks, and at another every check is", async () => {
  await using on = await start("on", "--ephemeral", "--config", ON);
  await using off = await start("off", "--ephemeral");
  using atOn = new GrpcDoor(on.grpc);
  using atOff = new GrpcDoor(off.grpc);
  const tcpTo = (host: string) => goodEntry({ targets: [{ host, port: 80 }], checks: [{ tcp: {} }] });
  for (const host of ["169.254.169.254", "127.0.0.2", "10.0.0.1", "::1", "::ffff:127.0.0.1"])
    expect([host, await register(atOn, tcpTo(host))]).toMatchObject([
      host,
      {
        code: "INVALID_ARGUMENT",
        reason: "invalid_argument",
        fields: ["entries[0].checks[0].target"],
        rule: "checks.allowed",
      },
    ]);
  const refused = { code: "FAILED_PRECONDITION", reason: "checks_disabled", fields: ["entries[0].checks"] };
  expect(await register(atOff, tcpTo("127.0.0.1"))).toMatchObject({ ...refused, rule: "checks.enabled" });
  expect(await register(atOff, goodEntry({ checks: [{ ttl: {} }] }))).toMatchObject(refused);
  expect(await register(atOff, goodEntry())).toMatchObject({ code: "OK" });
  expect([(await items(atOn)).length, (await items(atOff)).length]).toEqual([0, 1]);
});

test("a file of entries has their checks; a restart without checks keeps the entry, says that nobody runs them, and shows what its client reports", {
  tags: ["night"],
}, async () => {
  const directory = join(HOME, "data");
  const file = join(HOME, "entries.yaml");
  const web = await answering((socket) => socket.end("HTTP/1.1 500 x\r\n\r\n"));
  writeFileSync(
    file,
    `entries:
  - key: {kind: service, namespace: svc.market, name: web, instance_id: web-1}
    targets: [{host: 127.0.0.1, port: ${web.port}}]
    checks:
      - {interval: 1s, failing: 1, http: {path: /healthz}}
`,
  );
  const seen = async (node: NodeProcess) => {
    using door = new GrpcDoor(node.grpc);
    const [entry = {}] = await items(door);
    return { health: textOf(entry["health"]), states: entry["checkStates"] };
  };
  {
    // A node without a fabric runs them too.
    await using node = await start("kept", "--data-dir", directory, "--config", ALONE);
    await using apply = new CommandProcess(["apply", "--server", node.grpc, "-f", file]);
    expect(await apply.finished()).toMatchObject({ exit: 0 });
    await until("it is critical", async () => (await seen(node)).health === "HEALTH_STATUS_CRITICAL");
    // What checks found is no difference to the file.
    await using again = new CommandProcess(["apply", "--server", node.grpc, "-f", file]);
    expect(await again.finished()).toMatchObject({
      exit: 0,
      stderr: expect.stringContaining("0 updated, 0 removed, 1 unchanged") as string,
    });
    expect((await seen(node)).health).toBe("HEALTH_STATUS_CRITICAL");
    // The program can be looked up with what its check found.
    expect((await seen(node)).states).toMatchObject([{ failure: "CHECK_FAILURE_STATUS", httpStatus: 500 }]);
    await node.stop("SIGKILL");
  }
  {
    await using node = await start("kept", "--data-dir", directory);
    await until("nothing is known of it", async () => (await seen(node)).health === "HEALTH_STATUS_HEALTHY");
    expect((await seen(node)).states).toBeUndefined();
    expect(await detailOf(node)).toBe("1 not run: checks.enabled is false");
    expect(await metricsOf(node)).toMatch(/^waymark_checks\{state="unwatched"\} 1$/m);
    expect(node.command.stderr).toContain("have checks that do not run");
    await node.stop("SIGKILL");
  }
  await using node = await start("kept", "--data-dir", directory, "--config", ON);
  await until("it is watched again", async () => (await seen(node)).health === "HEALTH_STATUS_CRITICAL");
});

test("a node whose checks all turn at once doubts itself, and says so", { tags: ["night"] }, async () => {
  let isUp = true;
  const web = await answering((socket) => (isUp ? socket.end(OK) : socket.resetAndDestroy()));
  await using node = await start("doubting", "--ephemeral", "--config", ON);
  using door = new GrpcDoor(node.grpc);
  const targets = [{ host: "127.0.0.1", port: web.port }];
  const entries = Array.from({ length: 12 }, (_, i) =>
    goodEntry({ targets, checks: [{ interval: "1s", failing: 2, http: {} }] }, { instanceId: `web-${i}` }),
  );
  expect((await door.ask("register", { entries, staticLease: true })).code).toBe("OK");
  await until("all pass", async () => (await detailOf(node)).startsWith("12 passing"));
  isUp = false;
  await until("it doubts itself", async () => /self-preservation/.test(await detailOf(node)));
  isUp = true;
  expect(await metricsOf(node)).toMatch(/^waymark_checks_doubting(\{\})? 1$/m);
  expect((await items(door)).map((entry) => entry["health"])).toEqual(entries.map(() => "HEALTH_STATUS_HEALTHY"));
  await until("the log has it", () => node.command.stderr.includes("self-preservation keeps the previous states"));
});
