/** The parts of a node: opened, begun and read again in their order, ended in reverse, and all by one deadline. */
import { expect, test } from "vitest";
import { assert } from "../../src/lib/errors.ts";
import { type NodeComponent, NodeComponents, StopDeadline } from "../../src/node/components.io.ts";

function listOf(interrupt?: AbortSignal) {
  const said: string[] = [];
  const log = { error: (fields: object, message: string) => void said.push(`${message}: ${JSON.stringify(fields)}`) };
  const parts = new NodeComponents(log, undefined, interrupt);
  const part = (name: string, more: NodeComponent = {}) =>
    parts.open(
      name,
      () => void said.push(`open ${name}`),
      () => ({
        start: () => void said.push(`start ${name}`),
        reload: () => void said.push(`reload ${name}`),
        drain: () => void said.push(`drain ${name}`),
        stop: () => void said.push(`stop ${name}`),
        readiness: () => [{ name, ok: true, detail: "" }],
        observe: () => void said.push(`observe ${name}`),
        ...more,
      }),
    );
  const take = () => said.splice(0);
  return { parts, part, take, said };
}

test("parts open, begin and read their files in the order of the list, and drain and end in reverse", async () => {
  const { parts, part, take } = listOf();
  await part("a");
  await part("b");
  expect(take()).toEqual(["open a", "open b"]);
  await parts.start();
  parts.reload();
  parts.observe();
  expect(take()).toEqual(["start a", "start b", "reload a", "reload b", "observe a", "observe b"]);
  expect(parts.readiness({ monoMs: 0, wallMs: 0 }).map(({ name }) => name)).toEqual(["a", "b"]);
  await parts.drain(new StopDeadline(1000));
  await parts.stop(new StopDeadline(1000));
  expect(take()).toEqual(["drain b", "drain a", "stop b", "stop a"]);
  await parts.stop(new StopDeadline(1000));
  expect(take()).toEqual([]);
});

test("a part that cannot open leaves those before it to be closed; what fails in one keeps no other from its turn", async () => {
  const { parts, part, take } = listOf();
  await part("a");
  await part("b", { stop: () => Promise.reject(new Error("stuck")), reload: () => expect.unreachable("a bad file") });
  await expect(
    parts.open(
      "c",
      () => Promise.reject(new Error("taken")),
      () => ({}),
    ),
  ).rejects.toThrow("taken");
  take();
  parts.reload();
  await parts.stop(new StopDeadline(1000));
  expect(take().map((line) => line.replace(/:.*/, ""))).toEqual(["reload a", "component not reloaded", "component not closed", "stop a"]);
});

test("a list that is interrupted opens no more parts, also in a group of it, and closes those that are open", async () => {
  const interrupt = new AbortController();
  const { parts, part, take } = listOf(interrupt.signal);
  await part("a");
  const group = await parts.group("group");
  interrupt.abort(new Error("told to stop"));
  await expect(part("b")).rejects.toThrow("told to stop");
  await expect(
    group.open(
      "c",
      () => expect.unreachable("opened"),
      () => ({}),
    ),
  ).rejects.toThrow("told to stop");
  await parts.stop(new StopDeadline(1000));
  expect(take()).toEqual(["open a", "stop a"]);
});

test("parts that never end share one deadline: each is named, and those after them still end", async () => {
  const { parts, part, take } = listOf();
  const never = () => new Promise<void>(() => {});
  await part("a");
  await part("b", { stop: never, drain: never });
  await part("c", { stop: never });
  take();
  const startMonoMs = performance.now();
  await parts.stop(new StopDeadline(50));
  expect(performance.now() - startMonoMs).toBeLessThan(1000);
  expect(take().map((line) => line.replace(/"err":\{\},?/, ""))).toEqual([
    'component not closed: {"component":"c"}',
    'component not closed: {"component":"b"}',
    "stop a",
  ]);
});

test("parts of a group drain all at once, and are one part for the rest", async () => {
  const { parts, part, take } = listOf();
  await part("a");
  const group = await parts.group("listeners");
  const [slow, order] = [Promise.withResolvers<void>(), [] as string[]];
  await group.open(
    "x",
    () => {},
    () => ({ drain: () => void order.push("x"), stop: () => void order.push("stop x") }),
  );
  await group.open(
    "y",
    () => {},
    () => ({ drain: () => slow.promise.then(() => void order.push("y")) }),
  );
  const drained = parts.drain(new StopDeadline(1000));
  expect(order).toEqual(["x"]);
  expect(take()).toEqual(["open a"]);
  slow.resolve();
  await drained;
  expect([order, take()]).toEqual([["x", "y"], ["drain a"]]);
  await parts.stop(new StopDeadline(1000));
  expect([order, take()]).toEqual([["x", "y", "stop x"], ["stop a"]]);
});

test("a part that needs some time to drain has it, though the parts before it used up theirs", async () => {
  const { parts, part, take } = listOf();
  await part("fabric", { leastDrainMs: 60_000, drain: () => new Promise((resolve) => setTimeout(resolve, 50)) });
  await part("listeners", { drain: () => new Promise<void>(() => {}) });
  take();
  await parts.drain(new StopDeadline(20));
  expect(take().map((line) => line.replace(/"err":\{\},?/, ""))).toEqual(['component not drained: {"component":"listeners"}']);
});

test("a bug in a part that is to be drained, closed or read again is not passed over: the process must end by it", async () => {
  const bug = () => assert(false, "planted");
  for (const how of ["drain", "stop", "reload"] as const) {
    const { parts, part, take } = listOf();
    await part("a");
    await part("b", { [how]: bug });
    const ended = how === "reload" ? () => Promise.resolve().then(() => parts.reload()) : () => parts[how](new StopDeadline(1000));
    await expect(ended()).rejects.toThrow("assertion failed: planted");
    expect(take().filter((line) => line.startsWith("not "))).toEqual([]);
  }
});
