/** A backup as the guide says: what a copy of a data directory brings back depends on how the node was stopped. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-backup-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
/** As long as a busy machine takes to hand over what a node has that leaves. */
const PATIENT = join(HOME, "patient.json");
writeFileSync(PATIENT, JSON.stringify({ node: { stop_timeout: "60s" } }));

/** The nodes whose entries of the namespace a node has. */
async function holdersAt(node: NodeProcess): Promise<readonly string[]> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespace: "svc" });
  return ((response["items"] ?? []) as { nodeId: string }[]).map(({ nodeId }) => nodeId);
}

test.each(
  some([
    // It has a snapshot of the other node too, which is written as it stops.
    { onStop: "keep", signal: "SIGTERM", holders: ["a", "b"] },
    { onStop: "leave", signal: "SIGKILL", holders: ["b"] },
    // What a node hands over when it leaves is no longer in its directory as its own.
    { onStop: "leave", signal: "SIGTERM", holders: ["a", "a"] },
  ] as const),
)("the copy of a node that stops by $signal with on_stop = $onStop brings back static entries of $holders", async (how) => {
  const { onStop, signal, holders } = how;
  const disk = join(HOME, `${onStop}-${signal}`);
  const copy = `${disk}-copy`;
  {
    await using a = await startNodeProcess(["--ephemeral", "--node-id", "a"]);
    const joining = ["--node-id", "b", "--join", a.listeners["fabric"] ?? "", "--data-dir", disk, "--on-stop", onStop, "--config", PATIENT];
    await using b = await startNodeProcess(joining);
    for (const [node, name] of [
      [a, "api"],
      [b, "web"],
    ] as const) {
      using door = new GrpcDoor(node.grpc);
      const key = { kind: "ENTRY_KIND_SERVICE", namespace: "svc", name, instanceId: "1" };
      expect((await door.ask("register", { entries: [{ key }], staticLease: true })).code).toBe("OK");
    }
    for (const node of [a, b]) await until("it has both", async () => ((await holdersAt(node)).length === 2 ? [] : ["not yet"]));
    await b.stop(signal);
    cpSync(disk, copy, { recursive: true });
  }
  await using restored = await startNodeProcess(["--node-id", "b", "--data-dir", copy, "--new-generation"]);
  expect(await holdersAt(restored)).toEqual(holders);
});

test("a restored copy goes on in a new generation, and what it held under a lease ends once, at every node", {
  tags: ["night"],
}, async () => {
  const disk = join(HOME, "leased");
  const copy = `${disk}-copy`;
  await using a = await startNodeProcess(["--ephemeral", "--node-id", "a"]);
  const joining = ["--node-id", "b", "--join", a.listeners["fabric"] ?? ""];
  {
    await using b = await startNodeProcess([...joining, "--data-dir", disk]);
    using door = new GrpcDoor(b.grpc);
    const key = { kind: "ENTRY_KIND_SERVICE", namespace: "svc", name: "web", instanceId: "1" };
    expect((await door.ask("register", { entries: [{ key }], ttl: "10s" })).code).toBe("OK");
    await until("a has it", async () => ((await holdersAt(a)).length === 1 ? [] : ["not yet"]));
    await b.stop("SIGKILL");
    cpSync(disk, copy, { recursive: true });
  }
  await using restored = await startNodeProcess([...joining, "--data-dir", copy, "--new-generation"]);
  for (const node of [restored, a]) await until("it is gone", async () => holdersAt(node));
});
