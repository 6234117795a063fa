/** Verbs about settings, and reading a settings file for `serve`. */

import { exposureFaults, exposureWarnings } from "../../config/exposure.ts";
import { type EffectiveSettings, listSettings, loadConfig, problemText, type SettingSource, settingsDocument } from "../../config/load.ts";
import type { Settings } from "../../config/settings.ts";
import type { Environment } from "../environment.ts";
import { readInput } from "../environment.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import type { VerbFunction } from "../table/verb.ts";

const MAX_CONFIG_BYTES = 1024 * 1024;

async function readSettings(environment: Environment, name: string, source?: "--config"): Promise<NonNullable<SettingSource["file"]>> {
  const format = name.endsWith(".json") ? "json" : name.endsWith(".toml") ? "toml" : undefined;
  if (format === undefined) throw new UsageError(`${name}: a settings file ends in .toml or .json`);
  return { name, format, text: await readInput(environment, name, MAX_CONFIG_BYTES, source) };
}

/** Why a node would not start with settings that are valid: it would be open by accident, or a file that they name is wrong. */
async function startFaults(environment: Environment, settings: Settings): Promise<readonly string[]> {
  return [...exposureFaults(settings), ...(await environment.fileFaults(settings))];
}

/** As `readEffective`, for a node: also throws for everything that would keep a node from starting. */
export async function readForNode(
  environment: Environment,
  file: string | undefined,
  flags: SettingSource["flags"],
): Promise<EffectiveSettings> {
  const effective = await readEffective(environment, file, flags);
  const faults = await startFaults(environment, effective.settings);
  if (faults.length > 0) throw new CommandError(faults.join("\n"), EXIT.usage);
  return effective;
}

/** Reads settings from a file, the environment and flags. Throws with every problem. */
export async function readEffective(
  environment: Environment,
  file: string | undefined,
  flags: SettingSource["flags"],
): Promise<EffectiveSettings> {
  const loaded = loadConfig({
    ...(file !== undefined && { file: await readSettings(environment, file, "--config") }),
    env: environment.env,
    flags,
  });
  if (!loaded.ok) throw new CommandError(loaded.problems.map(problemText).join("\n"), EXIT.usage);
  return loaded.effective;
}

export const validate: VerbFunction = async ({ environment, args, flags, out }) => {
  const [name, other] = [...args, flags.text("config")].filter((file) => file !== undefined);
  if (other !== undefined) throw new UsageError(`the settings file is given twice: ${name ?? ""} and --config ${other}`);
  if (name === undefined)
    throw new UsageError(
      "name the settings file to check, as in waymark config validate node.toml; waymark config show checks the environment too",
    );
  const loaded = loadConfig({
    file: await readSettings(environment, name, args.length === 0 ? "--config" : undefined),
    env: {},
    flags: new Map(),
  });
  const source = `file ${name}`;
  const problems = loaded.ok
    ? (await startFaults(environment, loaded.effective.settings)).map((message) => ({ path: "", message, source }))
    : loaded.problems;
  const warnings = loaded.ok
    ? [...exposureWarnings(loaded.effective.settings), ...(await environment.fileWarnings(loaded.effective.settings))]
    : [];
  const isValid = problems.length === 0;
  if (out.isMachine) out.json({ valid: isValid, problems, warnings });
  else for (const problem of problems) out.error(problemText(problem));
  for (const warning of warnings) out.note(`warning: ${warning}`);
  if (!loaded.ok) out.note("there may be more: settings that contradict each other, and files, are checked when these values are right");
  if (isValid) out.note(`${name} is valid`);
  return isValid ? EXIT.done : EXIT.usage;
};

export const show: VerbFunction = async ({ environment, flags, out }) => {
  const effective = await readEffective(environment, flags.text("config"), new Map());
  out.document(settingsDocument(effective), {
    columns: [
      { title: "SETTING", stored: (row) => row.path },
      { title: "VALUE", stored: (row) => row.value },
      { title: "FROM", stored: (row) => row.origin },
    ],
    rows: listSettings(effective),
  });
};
