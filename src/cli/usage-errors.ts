/** Error messages for invalid command lines: missing arguments, suggestions for unknown words, and commands of later versions. */
import type { Command } from "commander";
import { findNearest } from "../lib/nearest.ts";
import { GROUPS, VERBS } from "./table/verbs.ts";

/** Flag errors that do not depend on the flag's value. Their messages do not contain the value, which may be a token. */
export const IS_EMPTY = "is empty";
export const IS_TWICE = "is given twice";
export const IS_TWO_LISTS = "is given more than once";

const FLAG_REMEDIES: Readonly<Record<string, string>> = {
  [IS_EMPTY]: "give it a value, or leave it out",
  [IS_TWICE]: "give it once",
  [IS_TWO_LISTS]: "give it once, with its values separated by commas",
};

export function usageErrorOf(text: string, command: Command): string {
  const flag = /^error: option '(?:-\w, )?(?<name>--[\w-]+)[^]* is invalid\. (?<rule>is empty|is given (?:twice|more than once))\n?$/.exec(
    text,
  )?.groups;
  if (flag) return `error: ${flag["name"] ?? ""} ${flag["rule"] ?? ""}; ${FLAG_REMEDIES[flag["rule"] ?? ""] ?? ""}\n`;
  if (text.startsWith("error: missing required argument ")) return `${missingError(command) ?? text}\n`;
  const choice = /^error: .*(?:value|argument) '(?<word>[^']*)' is invalid[^]* Allowed choices are (?<choices>[^.]*)\./.exec(text)?.groups;
  if (choice) return `${text.trimEnd()}${suggestion(choice["word"] ?? "", choice["choices"]?.split(", ") ?? [])}\n`;
  // A group with a default verb treats an unknown word as an argument of that verb.
  const [extra] = command.args;
  if (text.startsWith("error: too many arguments") && extra !== undefined && command.registeredArguments.length === 0 && isDefault(command))
    return laterComplaint(unknownCommand(extra, command.parent), pathOf(command.parent));
  const word = /^error: unknown command '(?<word>[^']*)'\n?$/.exec(text)?.groups?.["word"];
  return laterComplaint(word === undefined ? text : unknownCommand(word, command), pathOf(command));
}

/** Returns the command with these words below `program`. Throws a commander error if the command does not exist. */
export function findCommand(program: Command, words: readonly string[]): Command {
  let found = program;
  for (const word of words) {
    const next = found.commands.find((command) => command.name() === word);
    if (next === undefined) return found.error(unknownCommand(word, found).trimEnd());
    found = next;
  }
  return found;
}

/** The words that invoke the command, without `waymark`. */
export function pathOf(command: Command | null): string {
  if (command === null || command.parent === null) return "";
  const above = pathOf(command.parent);
  return above === "" ? command.name() : `${above} ${command.name()}`;
}

function unknownCommand(word: string, group: Command | null): string {
  const near = suggestion(word, group?.commands.map((command) => command.name()) ?? []);
  // The same word in another group is a better suggestion than a similar word in this group.
  const isElsewhere = VERBS.some(({ path }) => path.endsWith(` ${word}`));
  return `error: unknown command '${word}'${near === "" || isElsewhere ? elsewhere(word) : near}\n`;
}

/**
 * Suggests commands of all groups whose last word starts with `word` (`discovery access-audit` for `access`) or is similar to it (`discovery query` for
 * `quer`). The similarity must be higher than within a group, because the larger set has more accidental matches.
 */
function elsewhere(word: string): string {
  const lastOf = (path: string): string => path.slice(path.lastIndexOf(" ") + 1);
  const paths = [...new Set([...Object.keys(GROUPS), ...VERBS.map(({ path }) => path)])];
  const words = paths.map(lastOf);
  const nearest = words.find((last) => last.startsWith(`${word}-`)) ?? findNearest(word, words, 3);
  const meant = paths.filter((path) => lastOf(path) === nearest).map((path) => `waymark ${path}`);
  return meant.length === 0 ? "" : `\n(Did you mean ${meant.length === 1 ? "" : "one of "}${meant.join(", ")}?)`;
}

function suggestion(word: string, words: readonly string[]): string {
  const nearest = findNearest(word, words);
  return nearest === undefined ? "" : `\n(Did you mean ${nearest}?)`;
}

function isDefault(command: Command): boolean {
  return VERBS.some(({ path, isDefault: isOfGroup }) => isOfGroup === true && path === pathOf(command));
}

/** Returns a message that lists all missing arguments and flags, or undefined if none are missing. */
export function missingError(command: Command): string | undefined {
  const needed = VERBS.find(({ path }) => path === pathOf(command))?.flags?.filter(({ isRequired }) => isRequired);
  const words = command.registeredArguments.filter(({ required }, at) => required && command.args[at] === undefined);
  const absent = command.options.filter((option) => command.getOptionValue(option.attributeName()) === undefined);
  const flags = absent.filter((option) => needed?.some((flag) => flag.flags === option.flags));
  const missing = [...words.map((argument) => `<${argument.name()}>`), ...flags.map((option) => option.flags.replace(/^-\w, /, ""))];
  return missing.length === 0 ? undefined : `error: missing: ${missing.join(", ")}`;
}

/** Commands that are planned for a later version, without `waymark`. An entry that is a group includes all commands in the group. */
const LATER_COMMANDS: ReadonlySet<string> = new Set(["bench", "mesh capacity", "mesh clusters", "mesh versions"]);

/** Whether this command is planned for a later version. */
export function isUnimplementedCommand(path: string): boolean {
  const words = path.split(" ");
  return words.some((_, at) => LATER_COMMANDS.has(words.slice(0, at + 1).join(" ")));
}

/** Returns commander's error about an unknown word below `path`, or a note that the command is planned for a later version. */
function laterComplaint(complaint: string, path: string): string {
  const [, name = ""] = /^error: unknown command '([^'=]+)/.exec(complaint) ?? [];
  const full = path === "" ? name : `${path} ${name}`;
  return name !== "" && isUnimplementedCommand(full) ? `error: waymark ${full} is planned for a later version\n` : complaint;
}
