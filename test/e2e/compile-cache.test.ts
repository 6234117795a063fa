/**
 * What Node compiled is kept where only this user writes, so that a node that was killed is back as soon as one that stopped.
 * @module-tag night
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, expect, test } from "vitest";
import { onFreePorts } from "../fakes/node-process.ts";

const WAYMARK = "bin/waymark";
const folder = mkdtempSync(join(tmpdir(), "waymark-compiled-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Starts a node in an environment without folders of its own but these, and kills it as soon as it is ready. */
async function killWhenReady(folders: Readonly<Record<string, string>>, store: readonly string[] = ["--ephemeral"]): Promise<void> {
  const { HOME: _home, XDG_CACHE_HOME: _caches, NODE_COMPILE_CACHE: _node, ...env } = process.env;
  const child = spawn(WAYMARK, ["serve", ...onFreePorts(store), "-o", "json", "--log-level", "error"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...env, ...folders },
  });
  const ended = once(child, "exit");
  try {
    const signal = AbortSignal.timeout(60_000);
    const [line] = (await once(createInterface({ input: child.stdout }), "line", { signal })) as [string];
    expect(JSON.parse(line)).toMatchObject({ event: "ready" });
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

/** Compiled files below the folder; Node names a folder by its version and the user. */
function compiledIn(caches: string): number {
  const own = join(caches, "waymark");
  return existsSync(own) ? readdirSync(own).flatMap((version) => readdirSync(join(own, version))).length : 0;
}

test.each([
  { told: "XDG_CACHE_HOME", folders: { HOME: join(folder, "x"), XDG_CACHE_HOME: join(folder, "caches") }, kept: join(folder, "caches") },
  { told: "HOME", folders: { HOME: join(folder, "home"), XDG_CACHE_HOME: "not/absolute" }, kept: join(folder, "home", ".cache") },
])("a killed node's compiled code is below $told", async ({ folders, kept }) => {
  await killWhenReady(folders);
  expect(compiledIn(kept)).toBeGreaterThan(300);
  expect(existsSync("not")).toBe(false);
});

test("so is that of the threads that own its files", async () => {
  const folders = { XDG_CACHE_HOME: join(folder, "threads") };
  await killWhenReady(folders);
  const withoutThreads = compiledIn(folders.XDG_CACHE_HOME);
  await killWhenReady(folders, ["--data-dir", join(folder, "data")]);
  expect(compiledIn(folders.XDG_CACHE_HOME)).toBeGreaterThan(withoutThreads);
});

test.each([
  { what: "no folder is known", folders: {} },
  { what: "the folder cannot be made", folders: { HOME: "/dev/null" } },
  { what: "the parent of the folder takes no folders", folders: { HOME: "/proc" } },
  { what: "the folder for caches takes none", folders: { XDG_CACHE_HOME: "/proc/self" } },
])("a node starts where $what", async ({ folders }) => {
  await expect(killWhenReady(folders)).resolves.toBeUndefined();
});
