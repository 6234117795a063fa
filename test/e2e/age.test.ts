/** The age of answers while a node is cut off from the others: it grows from the first moment, and goes on when they are called dead. */
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
  expect(JSON.parse(lag.stdout)).toMatchObject({ detail: "not in step with b" });

  b.command.kill("SIGCONT");
  await expect.poll(ageMs).toBeLessThan(2000);
  await expect.poll(async () => (await ask("3s")).code).toBe("OK");
});
