/** A start that fails, at whatever step: it says why, closes what it opened, and ends. */

import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { CommandProcess, startNodeProcess } from "../fakes/node-process.ts";

const root = mkdtempSync(join(tmpdir(), "waymark-failed-start-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const FREE = ["--grpc-port", "0", "--http-port", "0", "--dns-port", "0", "--fabric-port", "0"];
/** From the message on: how long a process has that is about to end (the promise of `serve`). */
const END_MS = 2000;
const TRIES = 5;
/** Until a start has failed, on a busy machine. */
const START_MS = 60_000;

function file(name: string, text: string): string {
  const path = join(root, name);
  writeFileSync(path, text);
  return path;
}

/** What fails a start, in the order of its steps; `says` is the message. */
const STEPS: readonly { readonly what: string; readonly flags: () => readonly string[]; readonly says: RegExp }[] = [
  {
    what: "credentials cannot be read",
    flags: () => ["--config", file("token.toml", '[[tenants.credentials]]\nscheme = "bearer"\ntenant = "a"\ntoken_file = "/nowhere"\n')],
    says: /token_file/,
  },
  {
    what: "the certificate of the fabric cannot be read",
    flags: () => ["--config", file("fabric.toml", '[fabric]\ncert_file = "/nowhere"\nkey_file = "/nowhere"\nca_file = "/nowhere"\n')],
    says: /nowhere/,
  },
  {
    what: "the demo catalog is refused, when all listeners are open",
    flags: () => ["--demo", "--config", file("demo.toml", "[limits]\nmax_name_length = 16\n")],
    says: /instance_id/,
  },
];

test.each(STEPS)("$what: the start ends with exit code 1", async ({ what, flags, says }) => {
  const data = join(root, what.replaceAll(/\W+/g, "-"));
  await expectEnd(["--data-dir", data, ...flags()], says);
  // What it opened is closed: the directory takes the next node.
  await using node = await startNodeProcess(["--data-dir", data]);
  expect(node.listeners).toHaveProperty("grpc");
});

test.each(["grpc", "http", "dns", "fabric"])("a taken %s port: the start ends with exit code 1", async (name) => {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  try {
    const address = holder.address();
    const port = typeof address === "object" && address !== null ? `${address.port}` : "";
    await expectEnd(["--ephemeral", `--${name}-port`, port], /address already in use/);
  } finally {
    holder.close();
  }
});

/** On a machine that others use too an end can come late once: it is measured again then, and late each time only by a fault. */
async function expectEnd(flags: readonly string[], says: RegExp): Promise<void> {
  const tookMs: number[] = [];
  do tookMs.push(await endedAfterMs(flags, says));
  while (tookMs.length < TRIES && Math.min(...tookMs) >= END_MS);
  expect(Math.min(...tookMs)).toBeLessThan(END_MS);
}

async function endedAfterMs(flags: readonly string[], says: RegExp): Promise<number> {
  await using command = new CommandProcess(["serve", "-o", "json", ...FREE, ...flags]);
  await command.errorLine(says, START_MS);
  const saidMs = performance.now();
  const { exit, stdout } = await command.finished();
  expect({ exit, stdout }).toEqual({ exit: 1, stdout: "" });
  return performance.now() - saidMs;
}
