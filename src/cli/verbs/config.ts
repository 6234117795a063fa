/** The verbs that check and show settings. Also loads the settings for `serve`. */

import { exposureFaults, exposureWarnings } from "../../config/exposure.ts";
import { type EffectiveSettings, listSettings, loadConfig, problemText, type SettingSource, settingsDocument } from "../../config/load.ts";
import type { Settings } from "../../config/settings.ts";
import { type Certificates, type Environment, readInput } from "../environment.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import type { VerbFunction } from "../table/verb.ts";

const MAX_CONFIG_BYTES = 1024 * 1024;

async function readSettings(environment: Environment, name: string, source?: "--config"): Promise<NonNullable<SettingSource["file"]>> {
  const format = name.endsWith(".json") ? "json" : name.endsWith(".toml") ? "toml" : undefined;
  if (format === undefined) throw new UsageError(`invalid settings file ${name}: the name must end in .toml or .json`);
  return { name, format, text: await readInput(environment, name, MAX_CONFIG_BYTES, source) };
}

/** Reasons why a node with valid settings would not start: it would be exposed by accident, or a file in the settings is invalid. */
async function startFaults(environment: Environment, settings: Settings): Promise<readonly string[]> {
  return [...exposureFaults(settings), ...(await environment.fileFaults(settings))];
}

/**
 * Like `readEffective`, but also throws an error if anything would prevent a node from starting. With `identified`, the settings name the node's own
 * certificate.
 */
export async function readForNode(
  environment: Environment,
  file: string | undefined,
  flags: SettingSource["flags"],
  identified: Certificates["identified"] = async (read) => read,
): Promise<EffectiveSettings> {
  const effective = await identified(await readEffective(environment, file, flags)).catch((error: unknown) => {
    throw new CommandError(error instanceof Error ? error.message : String(error), EXIT.usage, error);
  });
  const faults = await startFaults(environment, effective.settings);
  if (faults.length > 0) throw new CommandError(faults.join("\n"), EXIT.usage);
  return effective;
}

/** Reads settings from a file, the environment and flags. Throws an error that lists every problem. */
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
  if (other !== undefined) throw new UsageError(`two settings files given: ${name ?? ""} and --config ${other}`);
  if (name === undefined)
    throw new UsageError(
      "missing settings file: run, for example, waymark config validate node.toml; waymark config show also checks the environment",
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
  if (!loaded.ok)
    out.note("fix these values first: contradictory settings and referenced files are checked only after all values are valid");
  if (isValid) out.note(`${name} is valid`);
  return isValid ? EXIT.done : EXIT.usage;
};

export const show: VerbFunction = async ({ environment, flags, out }) => {
  const effective = await readEffective(environment, flags.text("config"), new Map());
  out.document(settingsDocument(effective), {
    columns: [
      { title: "SETTING", text: (row) => row.path },
      { title: "VALUE", text: (row) => row.value },
      { title: "FROM", text: (row) => row.origin },
    ],
    rows: listSettings(effective),
  });
};
