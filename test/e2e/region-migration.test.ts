/**
 * The five stages of the guide of regions, from one catalog to regions: each is done, seen, taken back and done again, by the files and commands of the page.
 * @module-tag night
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";
import { type Block, blocksOf, isAsSaid } from "../docs/commands.ts";
import { filesOf, GuideNodes, sectionsOf } from "../fakes/guide-nodes.ts";
import { WAYMARK } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const PAGE = "docs/guides/regions.md";
const STAGES = sectionsOf(PAGE, /^### Stage (\d)/);
const FILES = filesOf(PAGE);

interface Said {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe("stages 1 to 5", () => {
  let nodes: GuideNodes;
  beforeAll(async () => {
    nodes = await GuideNodes.of(["eu1-a", "us1-a"]);
    for (const [name, text] of filesOf(PAGE, "yaml")) nodes.write("scripts", name, text);
    return () => nodes[Symbol.asyncDispose]();
  });

  /** Runs a script of the page where its files are. */
  async function sh(script: string): Promise<Said> {
    const here = nodes.here("scripts", script).replaceAll(/^waymark /gm, `${resolve(WAYMARK)} `);
    const child = spawn("sh", ["-ec", here], { cwd: nodes.folder("scripts"), stdio: ["ignore", "pipe", "pipe"] });
    const said = { stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said.stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (said.stderr += text));
    const [exit] = (await once(child, "close")) as [number];
    return { exit, ...said };
  }

  const blocks = (stage: number, word: string): readonly Block[] =>
    blocksOf(STAGES.get(`${stage}`) ?? "").filter(({ words }) => words.includes(word));

  async function run(stage: number, word: "back" | "do"): Promise<void> {
    for (const { script } of blocks(stage, word)) expect(await sh(script)).toMatchObject({ exit: 0 });
  }

  /** Waits until the command prints what the page says, or does so no more; returns whether it does. */
  async function shows(stage: number, isWanted: boolean): Promise<boolean> {
    const [{ script, output } = { script: "", output: "" }] = blocks(stage, "see");
    let isSo = !isWanted;
    await until(`stage ${stage} is ${isWanted ? "done" : "taken back"}`, async () => {
      const { stdout, stderr } = await sh(script);
      isSo = isAsSaid(nodes.here("scripts", output ?? ""), stdout);
      return isSo === isWanted ? [] : [stdout, stderr];
    });
    return isSo;
  }

  const start = (stage: number, name: string) =>
    nodes.start(name, FILES.get(`stage ${stage}: ${name}.toml`) ?? "", name.endsWith("-r") ? ["--ephemeral"] : nodes.kept(name));

  test("stage 1: a cluster beside the old catalog", async () => {
    await start(1, "eu1-a");
    await run(1, "do");
    expect(await shows(1, true)).toBe(true);
    await run(1, "back");
    expect(await shows(1, false)).toBe(false);
    await run(1, "do");
  });

  test("stage 2: a resolver", async () => {
    await start(2, "eu1-r");
    expect(await shows(2, true)).toBe(true);
    await run(2, "back");
  });

  test("stage 3: a policy for one namespace", async () => {
    await run(3, "do");
    expect(await shows(3, true)).toBe(true);
    await run(3, "back");
    expect(await shows(3, false)).toBe(false);
    await run(3, "do");
  });

  test("stage 4: summaries", async () => {
    await Promise.all([start(4, "eu1-a"), start(4, "us1-a")]);
    await run(4, "do");
    expect(await shows(4, true)).toBe(true);
    await run(4, "back");
    expect(await shows(4, false)).toBe(false);
    await run(4, "do");
  });

  test("stage 5: programs ask in their region, and are led to the others", async () => {
    await start(5, "us1-r");
    await run(5, "do");
    expect(await shows(5, true)).toBe(true);
    const client = connect({ servers: [nodes.node("us1-r").grpc], findServers: false, autoSummaryRedirect: true });
    try {
      expect((await client.resolve("svc.market", "orders"))?.entry).toMatchObject({ clusterId: "eu1", key: { instanceId: "orders-1" } });
    } finally {
      client.close();
    }
    await run(5, "back");
    const { stdout } = await nodes.node("us1-a").run(["discovery", "policy"]);
    expect(stdout).toMatch(/^version +open$/m);
  });
});
