/** A start that fails, at whatever step: it says why, closes what it opened, and ends. */

import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { serverFiles } from "../fakes/certificate.ts";
import { CommandProcess, onFreePorts, startNodeProcess } from "../fakes/node-process.ts";

const root = mkdtempSync(join(tmpdir(), "waymark-failed-start-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

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

function certificateOfNobody(): Readonly<Record<string, string>> {
  const { certFile, keyFile, caFile } = serverFiles();
  return { cert_file: certFile, key_file: keyFile, ca_file: caFile };
}

/** What fails a start, in the order of its steps; `says` is the message. */
const STEPS: readonly { readonly what: string; readonly flags: () => readonly string[]; readonly says: RegExp; readonly exit: number }[] = [
  {
    what: "credentials cannot be read",
    flags: () => ["--config", file("token.toml", '[[tenants.credentials]]\nscheme = "bearer"\ntenant = "a"\ntoken_file = "/nowhere"\n')],
    says: /token_file/,
    exit: 2,
  },
  {
    what: "the certificate of the fabric is of no node",
    flags: () => ["--config", file("fabric.json", JSON.stringify({ fabric: certificateOfNobody() }))],
    says: /fabric\.cert_file.*does not name a node/,
    exit: 2,
  },
  {
    what: "the demo catalog is refused, when all listeners are open",
    flags: () => ["--demo", "--config", file("demo.toml", "[limits]\nmax_name_length = 16\n")],
    says: /instance_id/,
    exit: 1,
  },
];

test.each(STEPS)("$what: the start ends with exit code $exit", async ({ what, flags, says, exit }) => {
  const data = join(root, what.replaceAll(/\W+/g, "-"));
  await expectEnd(["--data-dir", data, ...flags()], says, exit);
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
async function expectEnd(flags: readonly string[], says: RegExp, exit = 1): Promise<void> {
  const tookMs: number[] = [];
  do tookMs.push(await endedAfterMs(flags, says, exit));
  while (tookMs.length < TRIES && Math.min(...tookMs) >= END_MS);
  expect(Math.min(...tookMs)).toBeLessThan(END_MS);
}

async function endedAfterMs(flags: readonly string[], says: RegExp, code: number): Promise<number> {
  await using command = new CommandProcess(["serve", "-o", "json", ...onFreePorts(flags)]);
  await command.errorLine(says, START_MS);
  const saidMs = performance.now();
  const { exit, stdout } = await command.finished();
  expect({ exit, stdout }).toEqual({ exit: code, stdout: "" });
  return performance.now() - saidMs;
}
