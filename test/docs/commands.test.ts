/** The commands of README and quick start, run as they stand against a node, in order, and their output compared. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EXAMPLE_HOOK } from "../fakes/example-hook.ts";
import { until } from "../fakes/until.ts";
import { type Block, blocksOf, isAsSaid, isBegunAsSaid, unrunOf } from "./commands.ts";

const PAGES = [
  "README.md",
  "docs/quickstart.md",
  ...["policy", "policy-handover", "leaders", "peers", "shards", "audit"].map((page) => `docs/guides/${page}.md`),
];
/** What cannot be run inside a test, and is run by CI as a whole. */
const KNOWN = ["npm ci && npm start", "npm test"];
const DEADLINE_MS = 120_000;

/** A shell script in a process group of its own, so that what it started ends with it. */
class Script {
  readonly #child: ChildProcess;
  readonly ended: Promise<unknown>;
  stdout = "";
  stderr = "";

  constructor(script: string, env: Readonly<Record<string, string>> = {}) {
    const base = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("WAYMARK_")));
    this.#child = spawn("sh", ["-c", script], { detached: true, stdio: ["ignore", "pipe", "pipe"], env: { ...base, ...env } });
    // A chunk may end inside a character.
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.stdout += text));
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    this.ended = once(this.#child, "close");
  }

  kill(signal: NodeJS.Signals): void {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, signal);
  }

  /** Waits for its end. */
  async over(): Promise<void> {
    let isOver = false;
    void this.ended.then(() => (isOver = true));
    await this.until(() => isOver);
  }

  /** Waits until it is true of what was printed so far. */
  until(isTrue: () => boolean): Promise<void> {
    return until("what a page says", () => (isTrue() ? [] : [`stdout: ${this.stdout}`, `stderr: ${this.stderr}`]), DEADLINE_MS);
  }
}

/** The name in a word such as `meanwhile:a`. */
function nameOf({ words }: Block, kind: string): string | undefined {
  return words.find((word) => word.startsWith(`${kind}:`))?.slice(kind.length + 1);
}

interface Ports {
  readonly grpc: string;
  readonly http: string;
  readonly dns: string;
  readonly fabric: string;
}

describe.each(PAGES)("%s", (page) => {
  const markdown = readFileSync(page, "utf8");
  let server: Script;
  let ports: Ports;
  /** Programs that run in other terminals, by name. */
  const others = new Map<string, Script>();

  beforeAll(async () => {
    // As the page says, but for ports that another node may hold and data that would stay.
    server = new Script("npm start -- --ephemeral --grpc-port 0 --http-port 0 --dns-port 0 --fabric-port 0");
    const ready =
      /^node \S+ is ready: gRPC 127\.0\.0\.1:(\d+), HTTP 127\.0\.0\.1:(\d+), DNS 127\.0\.0\.1:(\d+), fabric 127\.0\.0\.1:(\d+)\n/m;
    await server.until(() => ready.test(server.stderr));
    const [, grpc = "", http = "", dns = "", fabric = ""] = ready.exec(server.stderr) ?? [];
    ports = { grpc, http, dns, fabric };
  });
  afterAll(async () => {
    for (const other of others.values()) other.kill("SIGKILL");
    server.kill("SIGTERM");
    await server.ended;
  });

  test("has no command that is neither run nor known", () => {
    expect(unrunOf(markdown).filter((script) => !KNOWN.includes(script))).toEqual([]);
  });

  test("the node tells who started it what to try", async () => {
    const said = ["\ntry, in another terminal:\n  ./bin/waymark discovery query --prefix k8s", "/sd/prometheus\n"];
    await server.until(() => said.every((words) => server.stderr.includes(words)));
    expect(said.map((words) => server.stderr.includes(words))).toEqual([true, true]);
  });

  const here = (text: string): string =>
    text.replaceAll("17420", ports.grpc).replaceAll("17480", ports.http).replaceAll("17453", ports.dns).replaceAll("17421", ports.fabric);
  const tools = ({ words }: Block): readonly string[] => words.filter((word) => word !== "until-ctrl-c" && !word.includes(":"));
  const isHere = (block: Block): boolean => tools(block).every((tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0);

  for (const block of blocksOf(markdown)) {
    test.runIf(isHere(block))(`line ${block.line}: ${block.script.split("\n")[0]}`, async () => {
      const said = here(block.output ?? "…");
      const [stopped, meanwhile] = ["stop", "meanwhile"].map((kind) => nameOf(block, kind));
      const other = others.get(stopped ?? "");
      other?.kill("SIGTERM");
      await other?.over();
      const script = new Script(here(block.script), {
        WAYMARK_SERVER: `127.0.0.1:${ports.grpc}`,
        NODE_OPTIONS: `--import ${EXAMPLE_HOOK}`,
      });
      if (meanwhile !== undefined) {
        others.set(meanwhile, script);
        await script.until(() => isBegunAsSaid(said, script.stdout));
        return;
      }
      const isEndless = block.words.includes("until-ctrl-c");
      try {
        if (isEndless) {
          await script.until(() => isBegunAsSaid(said, script.stdout));
          script.kill("SIGINT");
        }
        await script.over();
      } finally {
        script.kill("SIGKILL");
      }
      // Where a page shows what goes to stderr too: a busy machine may take its time.
      const told = script.stdout.replaceAll(/^still running .*\n/gm, "");
      const isSame = isEndless ? isBegunAsSaid(said, told) : isAsSaid(said, told);
      // The page's words are what is expected, so that a difference shows where it is.
      expect(isSame ? said : script.stdout + script.stderr).toBe(said);
    });
  }
});

describe("what counts as the same output", () => {
  test.each([
    { said: "a  b", printed: "a b\n", same: true },
    { said: "a …", printed: "a\n", same: true },
    { said: "a …c", printed: "a bbc\n", same: true },
    { said: "a", printed: "a\nb\n", same: false },
    { said: "a\n…", printed: "a\nb\nc\n", same: true },
    { said: "a\n…\nc", printed: "a\nb\nb\nc\n", same: true },
    { said: "a\n…\nc", printed: "a\nb\n", same: false },
    { said: "a.b", printed: "axb\n", same: false },
  ])("%o", ({ said, printed, same }) => expect(isAsSaid(said, printed)).toBe(same));
});
