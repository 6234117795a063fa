/**
 * The age of answers while a node is cut off from the others: it grows from the first moment, and goes on when they are called dead.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { startNodeProcess } from "../fakes/node-process.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-age-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const CONFIG = join(HOME, "node.json");
const FABRIC = { interval: "200ms", ping_timeout: "100ms", join_timeout: "20s" };
writeFileSync(CONFIG, JSON.stringify({ fabric: FABRIC, observability: { log_level: "warn" } }));

test("the only other node is gone without a word: the age grows on after it is called dead, and whoever wants it fresher is refused", async () => {
  await using a = await startNodeProcess(["--ephemeral", "--node-id", "a", "--config", CONFIG]);
  await using b = await startNodeProcess(["--ephemeral", "--node-id", "b", "--config", CONFIG, "--join", a.listeners["fabric"] ?? ""]);
  using door = new GrpcDoor(a.grpc);
  const ask = (maxStaleness: string) => door.ask("catalogQuery", { namespacePrefix: "svc", maxStaleness });
  const ageMs = async () => 1000 * Number.parseFloat(textOf((await ask("3600s")).response["age"]));
  // In step a peer speaks every second.
  await expect.poll(ageMs).toBeGreaterThan(0);
  await expect.poll(ageMs).toBeLessThan(2000);

  b.command.kill("SIGSTOP");
  const peers = async () => (await door.ask("listPeers")).response["peers"] ?? [];
  await expect.poll(peers).toEqual([]);
  const calledDeadMs = await ageMs();
  await expect.poll(ageMs).toBeGreaterThan(Math.max(5000, calledDeadMs + 2000));
  expect(await ask("1s")).toMatchObject({ code: "UNAVAILABLE" });
  const lag = await a.run(["discovery", "lag", "-o", "json"]);
  expect(JSON.parse(lag.stdout)).toMatchObject({ detail: "not in sync with b" });

  b.command.kill("SIGCONT");
  await expect.poll(ageMs).toBeLessThan(2000);
  await expect.poll(async () => (await ask("3s")).code).toBe("OK");
});

test("the other nodes, and a resolver behind them, list a dead node as unreachable until it returns, and refuse strict callers", async () => {
  await using a = await startNodeProcess(["--ephemeral", "--node-id", "a", "--config", CONFIG]);
  const joined = ["--config", CONFIG, "--join", a.listeners["fabric"] ?? ""];
  await using others = new AsyncDisposableStack();
  others.use(await startNodeProcess(["--ephemeral", "--node-id", "b", ...joined]));
  const c = await startNodeProcess(["--ephemeral", "--node-id", "c", ...joined]);
  await using resolver = await startNodeProcess(["--mode", "resolver", "--ephemeral", "--upstream", a.grpc, "--namespaces", "svc"]);
  using door = new GrpcDoor(a.grpc);
  using edge = new GrpcDoor(resolver.grpc);
  const doors = [door, edge];
  const strict = { namespacePrefix: "svc", maxStaleness: "5s", maxStalenessStrict: true };
  const codes = () => Promise.all(doors.map(async (each) => (await each.ask("catalogQuery", strict)).code));
  const named = () => Promise.all(doors.map(async (each) => (await each.ask("listPeers")).response["unreachableNodes"]));
  await expect.poll(codes).toEqual(["OK", "OK"]);

  await c.stop("SIGKILL");
  const lost = { nodeIds: ["c"], count: 1 };
  await expect.poll(named).toEqual([lost, lost]);
  await expect.poll(codes).toEqual(["UNAVAILABLE", "UNAVAILABLE"]);
  await expect.poll(async () => (await door.ask("catalogQuery", { ...strict, maxStalenessStrict: false })).code).toBe("OK");
  const flags = ["discovery", "query", "--prefix", "svc", "--max-staleness", "5s"];
  const refused = await a.run([...flags, "--max-staleness-strict"]);
  expect([refused.exit, refused.stderr]).toEqual([1, expect.stringContaining("unreachable nodes: c") as string]);
  expect(JSON.parse((await a.run([...flags, "-o", "json"])).stdout)).toMatchObject({ unreachableNodes: lost });
  const watched = await a.run(["discovery", "watch", "--prefix", "svc", "--until-synced", "-o", "json"]);
  expect(JSON.parse(watched.stdout)).toMatchObject({ event: "synced", unreachableNodes: lost });

  others.use(await startNodeProcess(["--ephemeral", "--node-id", "c", ...joined]));
  await expect.poll(codes).toEqual(["OK", "OK"]);
  await expect.poll(named).toEqual([undefined, undefined]);
});
