/**
 * Plants a bug while the modules are loaded, then runs seeds until one finds it. A process of its own, so that nothing else sees the bug:
 * `node test/sim/mutant-child.ts NAME LAST_SEED [FIRST_SEED]`; prints one line of JSON.
 */
import { registerHooks } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { MUTANTS, type Mutant } from "./mutants.ts";

type Worlds =
  | "isOfLost"
  | "isOfStarts"
  | "isOfRestarted"
  | "isOfLeft"
  | "isOfGenerations"
  | "isOfNode"
  | "isOfCopies"
  | "isOfResolvers"
  | "isOfOrders"
  | "isOfDns"
  | "isOfJoins"
  | "isOfLeaders"
  | "isOfShards"
  | "isOfDrains"
  | "isOfAudits"
  | "isOfRegions"
  | "isOfRotations";

const ROOT = join(import.meta.dirname, "..", "..");
const [name = "", lastSeed = "0", firstSeed = "1"] = process.argv.slice(2);
// "none" plants nothing: what the seeds find then is no mutant.
const mutant: Pick<Mutant, "edits" | Worlds> | undefined = name === "none" ? { edits: [] } : MUTANTS.find((one) => one.name === name);
if (mutant === undefined) throw new Error(`there is no mutant ${JSON.stringify(name)}`);

const planted = new Set<string>();
registerHooks({
  load(url, context, nextLoad) {
    const result = nextLoad(url, context);
    const edits = mutant.edits.filter(({ file }) => url === pathToFileURL(join(ROOT, file)).href);
    if (edits.length === 0 || result.source === undefined) return result;
    let source = typeof result.source === "string" ? result.source : Buffer.from(result.source as Uint8Array).toString("utf8");
    for (const { find, replace } of edits) {
      const parts = source.split(find);
      if (parts.length !== 2) throw new Error(`${fileURLToPath(url)} has ${parts.length - 1} places like ${JSON.stringify(find)}, not one`);
      source = parts.join(replace);
      planted.add(find);
    }
    return { ...result, source };
  },
});

const { runSeed } = await worldsOf(mutant);
let found: { seed: number; invariant: string; message: string } | undefined;
let seed = Number(firstSeed);
for (; seed <= Number(lastSeed) && found === undefined; seed++) {
  const { violation } = await runSeed(seed);
  if (violation !== undefined) found = { seed, invariant: violation.invariant, message: violation.message.slice(0, 300) };
}
console.log(JSON.stringify({ isPlanted: planted.size === mutant.edits.length, found }));

function worldsOf(of: Pick<Mutant, Worlds>) {
  if (of.isOfLost === true) return import("./lost.ts");
  if (of.isOfStarts === true) return import("./starts.ts");
  if (of.isOfLeft === true) return import("./left.ts");
  if (of.isOfCopies === true) return import("./copies.ts");
  if (of.isOfNode === true) return import("./node-worlds.ts");
  if (of.isOfResolvers === true) return import("./resolver-worlds.ts");
  if (of.isOfDns === true) return import("./dns-worlds.ts");
  if (of.isOfJoins === true) return import("./joins.ts");
  if (of.isOfLeaders === true) return import("./leaders.ts");
  if (of.isOfShards === true) return import("./shards.ts");
  if (of.isOfDrains === true) return import("./drains.ts");
  if (of.isOfAudits === true) return import("./audits.ts");
  if (of.isOfRotations === true) return import("./rotations.ts");
  if (of.isOfRegions === true) return import("./region-worlds.ts");
  if (of.isOfOrders === true) return import("./orders.ts");
  if (of.isOfGenerations === true) return import("./generations.ts");
  return of.isOfRestarted === true ? import("./restarted.ts") : import("./run-seed.ts");
}
