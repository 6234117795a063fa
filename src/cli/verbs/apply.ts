/** The verb that registers the entries of a file. */
import { readEntryFile } from "../entries/file.ts";
import { carryOut } from "../entries/transfer.ts";
import { readInput } from "../environment.ts";
import type { VerbFunction } from "../table/verb.ts";

const MAX_FILE_BYTES = 16 * 1024 * 1024;

export const apply: VerbFunction = async ({ environment, flags, out, client }) => {
  const file = flags.text("file") ?? "";
  const { entries, problems } = readEntryFile(await readInput(environment, file, MAX_FILE_BYTES, "--file"));
  const namespaces = [...new Set(entries.map(({ entry }) => entry.key?.namespace ?? ""))].map((namespace) => ({ namespace }));
  if (entries.length === 0 && problems.length === 0) out.note(`${file} contains no entries`);
  return carryOut(
    {
      file,
      entries,
      problems,
      namespaces,
      isPartial: flags.isOn("partial"),
      isDryRun: flags.isOn("dryRun"),
      isPrunable: () => false,
      // An unchanged entry may have a lease that expires. Moving it to the static lease makes it permanent.
      claimsUnchanged: true,
    },
    { client, out },
  );
};
