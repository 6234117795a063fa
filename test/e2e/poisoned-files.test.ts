/**
 * Data directories whose files say what no version writes, their checksums right: a node starts with them, or says what to do.
 *
 * @module-tag night
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { KIND } from "../../src/fabric/snapshot/codec.ts";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { CommandProcess, type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { poisonJournal, poisonRow, poisonSnapshot } from "../fakes/poison.ts";
import { saying } from "../fakes/resealed.ts";
import { until } from "../fakes/until.ts";

const root = mkdtempSync(join(tmpdir(), "waymark-poison-"));
const STOPPED = join(root, "stopped");
afterAll(() => rmSync(root, { recursive: true, force: true }));

const WEB = "svc.market";
const TOP = BigInt(Number.MAX_SAFE_INTEGER);
const keyOf = (name: string) => ({ kind: "ENTRY_KIND_SERVICE", namespace: WEB, name, instanceId: "1" });
const entriesOf = (...wanted: string[]) => wanted.map((name) => ({ key: keyOf(name) }));

function start(directory: string, id: string, ...more: string[]) {
  return startNodeProcess(["--data-dir", directory, "--node-id", id, "--cluster-id", "c1", "--on-stop", "keep", ...more]);
}

async function names(door: GrpcDoor): Promise<readonly string[]> {
  const { code, message, response } = await door.ask("catalogQuery", { namespace: WEB, limit: 1000 });
  expect(`${code} ${message}`).toBe("OK ");
  const found = ((response["items"] ?? []) as JsonObject[]).map((item) => textOf((item["key"] as JsonObject)["name"]));
  return found.toSorted();
}

async function generationOf(node: NodeProcess): Promise<string> {
  const { stdout } = await node.run(["mesh", "peers", "list", "-o", "json"]);
  const [, generation = `none in ${stdout}`] = /"generation":\s*"?(\d+)/.exec(stdout.slice(stdout.indexOf('"a"'))) ?? [];
  return generation;
}

/** Waits until a node shows exactly these. */
function shown(door: GrpcDoor, ...wanted: string[]): Promise<void> {
  return until(`${wanted.join()} are shown`, async () => {
    const found = await names(door);
    return found.join() === wanted.join() ? [] : found;
  });
}

/** A directory of a node that knew another one, with static entries, a lease, and a removal. */
beforeAll(async () => {
  await using other = await start(join(root, "other"), "b");
  await using node = await start(STOPPED, "a", "--join", other.listeners["fabric"] ?? "");
  using door = new GrpcDoor(node.grpc);
  using otherDoor = new GrpcDoor(other.grpc);
  await otherDoor.ask("register", { entries: entriesOf("theirs"), staticLease: true });
  await door.ask("register", { entries: entriesOf("gone", "kept"), staticLease: true });
  await door.ask("register", { entries: entriesOf("leased"), ttl: "3600s", idempotencyKey: "once" });
  await door.ask("unregister", { keys: [keyOf("gone")] });
  await shown(door, "kept", "leased", "theirs");
  await node.stop();
});

function copy(what: string): string {
  const directory = join(root, what.replaceAll(/\W+/g, "-"));
  cpSync(STOPPED, directory, { recursive: true });
  return directory;
}

/** What each does to a directory with which a node then works as ever; `isBare`: what others told is to be had from them again. */
const TAKEN: readonly { readonly what: string; readonly poison: (directory: string) => void; readonly isBare?: boolean }[] = [
  {
    what: "numbers at their ends",
    poison: (directory) => {
      poisonJournal(directory, "UPDATE meta SET generation = ?", TOP);
      poisonJournal(directory, "UPDATE leases SET granted_wall_ms = ?, lease = 4294967295 WHERE ttl_ms > 0", TOP);
      poisonRow(directory, { lease: 4_294_967_295 });
      poisonSnapshot(
        directory,
        saying(KIND.HEADER, { savedWallMs: 1e300, lost: [{ nodeId: "x", generation: -1, through: 2 ** 53, mark: 0.5 }] }),
      );
    },
  },
  {
    what: "times that are none",
    poison: (directory) => {
      poisonSnapshot(directory, saying(KIND.HEADER, { savedWallMs: "soon" }));
      poisonSnapshot(directory, saying(KIND.ORIGIN, { life: "orphaned", absentWallMs: -1 }));
    },
  },
  {
    what: "an origin whose name is a number",
    poison: (directory) => poisonSnapshot(directory, saying(KIND.ORIGIN, { nodeId: 5 })),
    isBare: true,
  },
  {
    what: "frames that are cut off",
    poison: (directory) =>
      poisonSnapshot(directory, (blocks) =>
        blocks.map((block) => (block.kind === KIND.FRAME ? { ...block, payload: block.payload.subarray(0, -9) } : block)),
      ),
    isBare: true,
  },
];

test.each(TAKEN)(
  "with $what a node starts: a write, a removal, the end of a lease, a restart, and others hear of it",
  { tags: ["night"] },
  async (row) => {
    const directory = copy(row.what);
    row.poison(directory);
    const theirs = row.isBare === true ? [] : ["theirs"];
    let generation = "";
    {
      await using node = await start(directory, "a");
      using door = new GrpcDoor(node.grpc);
      await shown(door, "kept", "leased", ...theirs);
      await door.ask("register", { entries: entriesOf("again"), staticLease: true });
      await door.ask("register", { entries: entriesOf("short"), ttl: "1s" });
      const { code, message } = await door.ask("unregister", { keys: [keyOf("kept")] });
      expect(`${code} ${message}`).toBe("OK ");
      await shown(door, "again", "leased", ...theirs);
      generation = await generationOf(node);
      await node.stop("SIGKILL");
    }
    await using node = await start(directory, "a");
    using door = new GrpcDoor(node.grpc);
    // What was beyond all numbers is put right once: a generation at each start would be one more origin for everybody.
    expect(await generationOf(node)).toBe(generation);
    await shown(door, "again", "leased", ...theirs);
    await using neighbour = await start(`${directory}-n`, "n", "--join", node.listeners["fabric"] ?? "");
    using neighbourDoor = new GrpcDoor(neighbour.grpc);
    await until("a newcomer hears of it", async () => {
      const found = await names(neighbourDoor);
      return ["again", "leased"].filter((name) => !found.includes(name));
    });
    expect(node.command.isRunning).toBe(true);
  },
);

/** What each does to a directory that no node may go on with, and what the start says of it; `journal-damage.io.test.ts` has more. */
const REFUSED: readonly { readonly what: string; readonly poison: (directory: string) => void; readonly says: RegExp }[] = [
  { what: "a floor below none", poison: (directory) => poisonJournal(directory, "UPDATE meta SET floor = -5"), says: /its floor is -5/ },
  {
    what: "the last number there is",
    poison: (directory) => poisonJournal(directory, "UPDATE meta SET last_seq = ?", 2n ** 52n),
    says: /its last_seq is 4503599627370496/,
  },
  { what: "a lease without an id", poison: (directory) => poisonJournal(directory, "UPDATE leases SET lease_id = ''"), says: /has no id/ },
  {
    what: "a record that is cut off",
    poison: (directory) => poisonRow(directory, { record: Uint8Array.of(8, 3, 58, 100, 1) }),
    says: /a row cannot be read/,
  },
];

test.each(REFUSED)("with $what a start is refused, and says what to do", async ({ what, poison, says }) => {
  const directory = copy(what);
  poison(directory);
  const ports = ["--grpc-port", "--http-port", "--dns-port", "--fabric-port"].flatMap((flag) => [flag, "0"]);
  const { exit, stderr } = await new CommandProcess([
    "serve",
    "--data-dir",
    directory,
    "--node-id",
    "a",
    "--cluster-id",
    "c1",
    ...ports,
  ]).finished();
  expect(stderr).toMatch(says);
  expect(stderr).toMatch(/journal\.db is damaged: .*it was left unchanged: restore a backup, or move the directory away to start empty/);
  expect(exit).toBe(1);
});
