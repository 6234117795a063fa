/** What other tests rely on: a process of theirs that cannot start is told of at once, and none outlives the process of its test. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { CommandProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

test("a program that is not there ends the wait for its line with why", async () => {
  await using absent = new CommandProcess(["serve"], "", [], "no-such-program");
  await expect(absent.errorLine(/ready/)).rejects.toThrow("spawn no-such-program ENOENT");
  expect(await absent.finished()).toMatchObject({ exit: -1 });
});

test("a node of a test that is ended from outside ends with it", async () => {
  const work = `
    const { startNodeProcess } = await import("./test/fakes/node-process.ts");
    const node = await startNodeProcess(["--ephemeral"]);
    console.log(node.command.pid);
    await new Promise(() => setInterval(() => {}, 1000));`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", work], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "close");
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const pid = Number(line.toString());
  expect(existsSync(`/proc/${pid}`)).toBe(true);
  child.kill("SIGTERM");
  const [, signal] = (await ended) as [unknown, string];
  expect(signal).toBe("SIGTERM");
  await until("the node has ended", () => !existsSync(`/proc/${pid}`));
});
