/** A scenario: a node of two stands still (SIGSTOP) under clients that renew in time, one that moves meanwhile, and none at all. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExpectStatic } from "vitest";
import { GrpcDoor, textOf } from "./node.ts";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";
import { ProvedWatch } from "./proved-watch.ts";
import { until } from "./until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-frozen-"));
process.on("exit", () => rmSync(HOME, { recursive: true, force: true }));
const CONFIG = join(HOME, "node.json");
const FABRIC = { interval: "400ms", ping_timeout: "250ms", join_timeout: "20s" };
writeFileSync(CONFIG, JSON.stringify({ fabric: FABRIC, observability: { log_level: "warn" } }));

/** Long enough that a client on a busy machine, which renews six times meanwhile, is in time. */
const TTL_MS = 3000;
const LEASES = 50;

const entryOf = (name: string, note = "") => ({ key: { namespace: "svc.market", name, instanceId: "1" }, metadata: { note } });

/** Clients that renew in time whatever the node answers: six times a ttl. */
class Renewals implements Disposable {
  /** Leases of which a renewal said that they were gone. */
  readonly ended = new Set<string>();
  answerCount = 0;
  readonly #doors: readonly GrpcDoor[];
  readonly #timer: NodeJS.Timeout;

  constructor(address: string, leaseIds: readonly string[]) {
    this.#doors = leaseIds.map(() => new GrpcDoor(address));
    this.#timer = setInterval(() => leaseIds.forEach((id, i) => void this.#renew(this.#doors[i], id)), TTL_MS / 6);
  }

  async #renew(door: GrpcDoor | undefined, id: string): Promise<void> {
    const answer = await door?.ask("renew", { leaseIds: [id] });
    if (answer?.code !== "OK") return;
    this.answerCount += 1;
    for (const each of (answer.response["expiredLeaseIds"] ?? []) as string[]) this.ended.add(each);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const door of this.#doors) door[Symbol.dispose]();
  }
}

async function register(node: NodeProcess, name: string, ttl: string, note = ""): Promise<string> {
  using door = new GrpcDoor(node.grpc);
  const { code, response } = await door.ask("register", { entries: [entryOf(name, note)], ttl });
  if (code !== "OK") throw new Error(`not registered: ${code}`);
  return textOf(response["leaseId"]);
}

/** Name to note, as a node shows it. */
async function notesAt(node: NodeProcess): Promise<ReadonlyMap<string, string>> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  const items = (response["items"] ?? []) as { key: { name: string }; metadata?: { note?: string } }[];
  return new Map(items.map(({ key, metadata }) => [key.name, metadata?.note ?? ""]));
}

/** Leases that ran out at a node. */
async function ranOut(node: NodeProcess): Promise<number> {
  const page = await (await fetch(`http://${node.listeners["http"]}/metrics`)).text();
  return Number(/^waymark_leases_expired_total(?:\{.*\})? (\d+)/m.exec(page)?.[1]);
}

/** Freezes a node for so many ttl. Returns the leases that ended though they were renewed, and what a watch elsewhere saw removed. */
export async function frozenFor(
  ttlCount: number,
  expect: ExpectStatic,
): Promise<{ readonly ended: readonly string[]; readonly removals: readonly string[] }> {
  await using a = await startNodeProcess(["--ephemeral", "--node-id", "a", "--config", CONFIG]);
  await using b = await startNodeProcess(["--ephemeral", "--node-id", "b", "--config", CONFIG, "--join", a.listeners["fabric"] ?? ""]);
  const names = Array.from({ length: LEASES }, (_, i) => `w${i}`);
  const leaseIds = await Promise.all(names.map((name) => register(a, name, `${TTL_MS / 1000}s`)));
  using renewals = new Renewals(a.grpc, leaseIds);
  const answered = async () => {
    const before = renewals.answerCount;
    await until("renewals are answered", () => renewals.answerCount > before + 3 * LEASES);
  };
  await using watch = new ProvedWatch([b.grpc]);
  await watch.holds(names);

  await register(a, "moved", "10s", "old");
  await watch.holds([...names, "moved"]);
  await a.paused(ttlCount * TTL_MS, async () => void (await register(b, "moved", "600s", "new")));
  await answered();
  // The lease it left at the frozen node has what was left of it, then runs out, and ends nothing of the new one.
  await expect.poll(() => ranOut(a)).toBe(1);
  for (const node of [a, b]) expect((await notesAt(node)).get("moved")).toBe("new");
  await watch.holds([...names, "moved"]);
  const removals = [...watch.removals];

  // A node that ends nothing for nobody would pass the above.
  renewals[Symbol.dispose]();
  await watch.holds(["moved"]);
  return { ended: [...renewals.ended], removals };
}
