/** What other tests rely on: a process of theirs that cannot start is told of at once, and none outlives the process of its test. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { CommandProcess } from "../fakes/node-process.ts";
import { isRunning } from "../fakes/running.ts";
import { until } from "../fakes/until.ts";

test("a program that is not there ends the wait for its line with why", async () => {
  await using absent = new CommandProcess(["serve"], "", [], "no-such-program");
  await expect(absent.errorLine(/ready/)).rejects.toThrow("spawn no-such-program ENOENT");
  expect(await absent.finished()).toMatchObject({ exit: -1 });
});

// SIGHUP is what the terminal's processes get when it is closed; a node alone would read its files again.
test.each(some(["SIGTERM", "SIGHUP"] as const))("a node of a test that is ended from outside by %s ends with it", async (signal) => {
  const work = `
    const { startNodeProcess } = await import("./test/fakes/node-process.ts");
    const node = await startNodeProcess(["--ephemeral"]);
    console.log(node.command.pid);
    await new Promise(() => setInterval(() => {}, 1000));`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", work], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "close");
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const pid = Number(line.toString());
  onTestFinished(() => void (isRunning(pid) && process.kill(pid, "SIGKILL")));
  expect(isRunning(pid)).toBe(true);
  child.kill(signal);
  const [, by] = (await ended) as [unknown, string];
  expect(by).toBe(signal);
  await until("the node has ended", () => !isRunning(pid));
});
