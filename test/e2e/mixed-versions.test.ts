/**
 * The first version beside this one: its directories are opened, and a cluster of both replicates both ways.
 * @module-tag night
 */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FirstVersion, hasFirstVersion, unpackFirstVersion } from "../fakes/first-version.ts";
import { Member } from "../fakes/member.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { readyz, UnreadyNode } from "../fakes/unready-node.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-mixed-"));
const TOKEN = join(HOME, "cluster.token");
const FAST = join(HOME, "fast.json");
const isThere = hasFirstVersion();
let first: FirstVersion | undefined;

beforeAll(() => {
  writeFileSync(TOKEN, "one token for old and new nodes\n".replaceAll(" ", "-"), { mode: 0o600 });
  writeFileSync(
    FAST,
    JSON.stringify({ fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s", cluster_token_file: TOKEN } }),
  );
  if (isThere) first = unpackFirstVersion();
});
afterAll(() => {
  first?.[Symbol.dispose]();
  rmSync(HOME, { recursive: true, force: true });
});

/** A node of the first version or of this one, by the same flags. */
async function start(version: "first" | "this", nodeId: string, flags: readonly string[] = []): Promise<Member> {
  const all = ["--node-id", nodeId, "--config", FAST, "--data-dir", join(HOME, nodeId), ...flags];
  return new Member(await startNodeProcess(all, [], undefined, version === "first" ? first?.program : undefined));
}

describe.skipIf(!isThere)(`the first version${isThere ? "" : " (skipped: needs the history of the repository)"}`, () => {
  test.each(["SIGTERM", "SIGKILL"] as const)(
    "a directory of the first version is opened after %s, with all that it had acknowledged",
    async (signal) => {
      const nodeId = `alone-${signal}`;
      await using old = await start("first", nodeId);
      await old.register("static");
      await old.register("leased", {}, {});
      await old.node.stop(signal);
      await using now = await start("this", nodeId);
      await now.expectNames(["leased", "static"]);
      await now.unregister("static");
      expect(await now.names()).toEqual(["leased"]);
    },
  );

  test("a copied directory is refused by a new node though a first-version one knows nothing of starts; that one goes on as before", async () => {
    await using a = await start("first", "a4");
    await using b = await start("this", "b4", ["--join", a.fabric]);
    const before = await start("this", "n4", ["--join", b.fabric]);
    await before.register("of-n");
    await before.node.stop("SIGKILL");
    await before[Symbol.asyncDispose]();
    cpSync(join(HOME, "n4"), join(HOME, "n4-copy"), { recursive: true });
    await using n = await start("this", "n4", ["--join", b.fabric]);
    const flags = ["--node-id", "n4", "--config", FAST, "--data-dir", join(HOME, "n4-copy"), "--join", b.fabric];
    await using copy = await UnreadyNode.start(flags);
    await expect.poll(() => copy.command.stderr).toContain("own_start_refused");
    expect([await readyz(copy.http), copy.command.stdout]).toEqual([expect.stringMatching(/^503/), ""]);
    await n.register("goes-on");
    await a.register("of-a");
    await b.expectNames(["goes-on", "of-a", "of-n"]);
    await n.expectNames(["goes-on", "of-a", "of-n"]);
  });

  test("a cluster of both replicates both ways, and is upgraded node by node", async () => {
    await using a = await start("first", "a");
    await using b = await start("this", "b", ["--join", a.fabric]);
    await a.register("of-a");
    await b.register("of-b");
    await a.register("taken-out-at-b");
    await b.register("taken-out-at-a");
    const four = ["of-a", "of-b", "taken-out-at-a", "taken-out-at-b"];
    await a.expectNames(four);
    await b.expectNames(four);
    await a.unregister("taken-out-at-a");
    await b.unregister("taken-out-at-b");
    await a.expectNames(["of-a", "of-b"]);
    await b.expectNames(["of-a", "of-b"]);

    // A third joins by way of the old one, and the old one is replaced in its own directory.
    await using c = await start("this", "c", ["--join", a.fabric]);
    await c.expectNames(["of-a", "of-b"]);
    const port = a.fabric.slice(a.fabric.lastIndexOf(":") + 1);
    await a.node.stop("SIGKILL");
    await using upgraded = await start("this", "a", ["--join", b.fabric, "--fabric-port", port]);
    await upgraded.expectNames(["of-a", "of-b"]);
    await upgraded.register("after");
    for (const member of [b, c]) await member.expectNames(["after", "of-a", "of-b"]);
    expect(await upgraded.names()).toEqual(["after", "of-a", "of-b"]);
  });
});
