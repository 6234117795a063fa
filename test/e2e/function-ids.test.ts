/**
 * A function_id has one name in a namespace: at real nodes, under races, and after two of them took it at the same moment.
 *
 * @module-tag night
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const entry = (name: string, instanceId = "1", functionId = "f-1") => ({
  key: { kind: "ENTRY_KIND_FUNCTION", namespace: "svc.fn", name, instanceId },
  function: { functionId },
});

async function register(node: NodeProcess, name: string, instanceId = "1", functionId = "f-1"): Promise<string> {
  using door = new GrpcDoor(node.grpc);
  const { code, message, fields } = await door.ask("register", { entries: [entry(name, instanceId, functionId)], staticLease: true });
  return code === "OK" ? "ok" : `${fields.join()} ${message}`;
}

async function namesAt(node: NodeProcess): Promise<readonly string[]> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespace: "svc.fn" });
  return ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name);
}

const TAKEN_BY_PRICE = expect.stringContaining("f-1 is the id of price in svc.fn") as string;

test("an id that another name has is refused, also of many that ask at once", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  expect(await register(node, "price")).toBe("ok");
  expect(await register(node, "tax")).toEqual(TAKEN_BY_PRICE);
  expect([await register(node, "price", "2"), await register(node, "tax", "1", "f-2")]).toEqual(["ok", "ok"]);
  using door = new GrpcDoor(node.grpc);
  const asked = Array.from({ length: 50 }, (_, i) =>
    door.ask("register", { entries: [entry(`racer-${i}`, "1", "f-race")], staticLease: true }),
  );
  const answers = await Promise.all(asked);
  expect(answers.filter(({ code }) => code === "OK")).toHaveLength(1);
});

test("where two nodes took one id for two names, both refuse all but the first name in order", { tags: ["night"] }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "waymark-function-ids-"));
  try {
    await using one = await startNodeProcess(["--ephemeral", "--node-id", "one"]);
    const alone = ["--node-id", "two", "--data-dir", folder, "--on-stop", "keep"];
    const apart = await startNodeProcess(alone);
    expect([await register(one, "tax"), await register(apart, "price")]).toEqual(["ok", "ok"]);
    await apart.stop();
    await using two = await startNodeProcess([...alone, "--join", one.listeners["fabric"] ?? ""]);
    await expect
      .poll(async () => [await namesAt(one), await namesAt(two)])
      .toEqual([
        ["price", "tax"],
        ["price", "tax"],
      ]);
    for (const node of [one, two]) expect(await register(node, "tax", "2")).toEqual(TAKEN_BY_PRICE);
    expect([await register(one, "price", "2"), await register(two, "price", "3")]).toEqual(["ok", "ok"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
