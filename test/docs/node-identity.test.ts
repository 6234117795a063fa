/** The guide of node identities: its commands run in order, in a directory of their own, and print what it shows. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WAYMARK } from "../fakes/node-process.ts";
import { freePort } from "../fakes/probed-servers.ts";
import { until } from "../fakes/until.ts";
import { type Block, blocksOf, isAsSaid, isBegunAsSaid } from "./commands.ts";

const GUIDE = readFileSync("docs/guides/node-identity.md", "utf8");
const BLOCKS = blocksOf(GUIDE);
const FOLDER = mkdtempSync(join(tmpdir(), "waymark-identity-"));
const DEADLINE_MS = 120_000;
const MAX_COMMANDS = 8;

/** A command in a process group of its own, so that a node ends with it. */
class GuideCommand {
  readonly #child: ChildProcess;
  output = "";
  isOver = false;

  constructor(script: string, server: string) {
    const base = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("WAYMARK_")));
    const env = { ...base, WAYMARK_SERVER: server };
    this.#child = spawn("sh", ["-c", script], { cwd: FOLDER, detached: true, stdio: ["ignore", "pipe", "pipe"], env });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => (this.output += text));
    this.#child.once("close", () => (this.isOver = true));
  }

  until(isTrue: () => boolean): Promise<void> {
    return until("the output of the guide", () => (isTrue() ? [] : [this.output]), DEADLINE_MS);
  }

  async end(): Promise<void> {
    const { pid } = this.#child;
    if (pid !== undefined && !this.isOver) process.kill(-pid, "SIGKILL");
    await this.until(() => this.isOver);
  }
}

function isNode({ words }: Block): boolean {
  return words.some((word) => word.startsWith("meanwhile:"));
}

test("three nodes with TLS need at most eight commands, and the last one lists them", () => {
  const [section = ""] = GUIDE.split("## Three nodes with TLS\n")[1]?.split("\n## ") ?? [];
  const commands = blocksOf(section)
    .flatMap(({ script }) => script.split("\n"))
    .filter((line) => !line.startsWith("export "));
  expect(commands.length).toBeLessThanOrEqual(MAX_COMMANDS);
  expect(commands.at(-1)).toContain("waymark mesh peers list");
});

describe("the commands of the guide", () => {
  const nodes: GuideCommand[] = [];
  let grpcPort = "";
  let fabricPort = "";
  /** The exported variables of earlier blocks. */
  let exported = "";

  beforeAll(async () => {
    [grpcPort, fabricPort] = [`${await freePort()}`, `${await freePort()}`];
    writeFileSync(join(FOLDER, "mesh.toml"), /^```toml\n([^]*?)^```$/m.exec(GUIDE)?.[1] ?? "");
  });
  afterAll(async () => {
    for (const node of nodes) await node.end();
    rmSync(FOLDER, { recursive: true, force: true });
  });

  /** The text with the program and the ports of this test. The ports of the second and third node are any free ports. */
  const here = (text: string): string =>
    text
      .replaceAll(/(?<![\w./-])waymark(?= (?:auth|ca|cert|mesh|serve) )/g, resolve(WAYMARK))
      .replaceAll(/(serve --config mesh\.toml --data-dir eu-1)$/gm, `$1 --grpc-port 17420 --http-port 0 --dns-port 0 --fabric-port 17421`)
      .replaceAll(/\b17[56]\d\d\b/g, "0")
      .replaceAll("17420", grpcPort)
      .replaceAll("17421", fabricPort);

  for (const block of BLOCKS) {
    test(`line ${block.line}: ${block.script.split("\n")[0]}`, async () => {
      if (block.script.startsWith("export ")) {
        exported += `${block.script}\n`;
        return;
      }
      const wanted = (block.output ?? "…").replaceAll("17420", grpcPort);
      const command = new GuideCommand(exported + here(block.script), `127.0.0.1:${grpcPort}`);
      if (isNode(block)) {
        nodes.push(command);
        await command.until(() => command.isOver || isBegunAsSaid(wanted, command.output));
        expect(command.isOver ? command.output : "").toBe("");
        return;
      }
      try {
        await command.until(() => command.isOver);
      } finally {
        await command.end();
      }
      // The guide is the expected value, so that a difference shows where it is.
      expect(isAsSaid(wanted, command.output) ? wanted : command.output).toBe(wanted);
    });
  }
});
