/** Verbs about settings, and reading a settings file for `serve`. */
import { type Effective, listSettings, loadConfig, problemText, type SettingSource, type Settings } from "../../config.ts";
import { exposureFaults, exposureWarnings } from "../../config-exposure.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import { readInput } from "../input.ts";
import type { Verb } from "../verb.ts";
import type { World } from "../world.ts";

const MAX_CONFIG_BYTES = 1024 * 1024;

async function readSettings(world: World, name: string, source?: "--config"): Promise<NonNullable<SettingSource["file"]>> {
  const format = name.endsWith(".json") ? "json" : name.endsWith(".toml") ? "toml" : undefined;
  if (format === undefined) throw new UsageError(`${name}: a settings file ends in .toml or .json`);
  return { name, format, text: await readInput(world, name, MAX_CONFIG_BYTES, source) };
}

/** Why a node would not start with settings that are right in themselves: it would be open by accident, or a file is not what it should be. */
async function startFaults(world: World, settings: Settings): Promise<readonly string[]> {
  return [...exposureFaults(settings), ...(await world.fileFaults(settings))];
}

/** As `readEffective`, for a node: what would keep it from starting is refused like a setting that is wrong. */
export async function readForNode(world: World, file: string | undefined, flags: SettingSource["flags"]): Promise<Effective> {
  const effective = await readEffective(world, file, flags);
  const faults = await startFaults(world, effective.settings);
  if (faults.length > 0) throw new CommandError(faults.join("\n"), EXIT.usage);
  return effective;
}

/** Reads settings from a file, the environment and flags; throws with every problem when there are any. */
export async function readEffective(world: World, file: string | undefined, flags: SettingSource["flags"]): Promise<Effective> {
  const loaded = loadConfig({ ...(file !== undefined && { file: await readSettings(world, file, "--config") }), env: world.env, flags });
  if (!loaded.ok) throw new CommandError(loaded.problems.map(problemText).join("\n"), EXIT.usage);
  return loaded.effective;
}

export const validate: Verb = async ({ world, args, flags, out }) => {
  const [name, other] = [...args, flags.text("config")].filter((file) => file !== undefined);
  if (other !== undefined) throw new UsageError(`the settings file is given twice: ${name ?? ""} and --config ${other}`);
  if (name === undefined) throw new UsageError("which settings file is to be checked?");
  const loaded = loadConfig({
    file: await readSettings(world, name, args.length === 0 ? "--config" : undefined),
    env: {},
    flags: new Map(),
  });
  const source = `file ${name}`;
  const problems = loaded.ok
    ? (await startFaults(world, loaded.effective.settings)).map((message) => ({ path: "", message, source }))
    : loaded.problems;
  const warnings = loaded.ok
    ? [...exposureWarnings(loaded.effective.settings), ...(await world.fileWarnings(loaded.effective.settings))]
    : [];
  const isValid = problems.length === 0;
  if (out.isMachine) out.document({ valid: isValid, problems, warnings }, { columns: [], rows: [] });
  else for (const problem of problems) out.error(problemText(problem));
  for (const warning of warnings) out.note(`warning: ${warning}`);
  if (!loaded.ok) out.note("there may be more: settings that contradict each other, and files, are looked at once these are right");
  if (isValid) out.note(`${name} is valid`);
  return isValid ? EXIT.done : EXIT.usage;
};

export const show: Verb = async ({ world, flags, out }) => {
  const rows = listSettings(await readEffective(world, flags.text("config"), new Map()));
  out.document(Object.fromEntries(rows.map(({ path, value, origin }) => [path, { value, origin }])), {
    columns: [
      { title: "SETTING", cell: (row) => row.path },
      { title: "VALUE", cell: (row) => row.value },
      { title: "FROM", cell: (row) => row.origin },
    ],
    rows,
  });
  return EXIT.done;
};
