/** Generates shell completion scripts from the VERBS table. */

import { ALL_VERBS as VERBS } from "./table/full.ts";
import type { ArgSpec, CompletionShell, FlagSpec } from "./table/verb.ts";
import { GLOBAL_FLAGS, GROUPS } from "./table/verbs.ts";

interface CompletionWord {
  readonly word: string;
  readonly doc: string;
}

/** Returns the script to install for a shell. */
export function completionScript(shell: CompletionShell): string {
  switch (shell) {
    case "bash":
      return bashScript();
    case "zsh":
      return zshScript();
    case "fish":
      return fishScript();
  }
}

function longFlag({ flags }: FlagSpec): string {
  return /--[a-z-]+/.exec(flags)?.[0] ?? flags;
}

/** Words that can follow a command path: its subcommands and the choices of its first argument. */
function wordsAfter(path: string): readonly CompletionWord[] {
  if (path === "help") return wordsAfter("");
  const words = new Map<string, string>();
  for (const verb of VERBS) {
    if (path !== "" && !verb.path.startsWith(`${path} `)) continue;
    const [word = "", ...rest] = verb.path.slice(path === "" ? 0 : path.length + 1).split(" ");
    if (!words.has(word)) words.set(word, rest.length === 0 ? verb.summary : (GROUPS[path === "" ? word : `${path} ${word}`] ?? ""));
  }
  for (const word of VERBS.find((verb) => verb.path === path)?.args?.flatMap((arg: ArgSpec) => arg.choices ?? []) ?? [])
    words.set(word, "");
  return [...words].map(([word, doc]) => ({ word, doc }));
}

function flagsOf(path: string): readonly FlagSpec[] {
  return [...(VERBS.find((verb) => verb.path === path)?.flags ?? []), ...GLOBAL_FLAGS];
}

/** The root, each group and each verb. */
function paths(): readonly string[] {
  return ["", ...namedPaths()];
}

/** Each group and each verb. */
function namedPaths(): readonly string[] {
  const prefixes = (words: readonly string[]) => words.map((_, at) => words.slice(0, at + 1).join(" "));
  return [...new Set(VERBS.flatMap(({ path }) => prefixes(path.split(" "))))];
}

/** Values of a command's flags, by the long and short names of each flag: either choices or files. */
function valuesOf(path: string): readonly { readonly names: readonly string[]; readonly choices: readonly string[] | "files" }[] {
  return flagsOf(path).flatMap((flag) => {
    const choices = flag.choices ?? (flag.flags.includes("<file>") ? "files" : undefined);
    const short = /^-\w(?=,)/.exec(flag.flags)?.[0];
    return choices === undefined ? [] : [{ names: [longFlag(flag), ...(short === undefined ? [] : [short])], choices }];
  });
}

/** Flags that are followed by a value. Such a value is not part of the command path. */
function valueFlags(): readonly string[] {
  const all = [...VERBS.flatMap((verb) => verb.flags ?? []), ...GLOBAL_FLAGS].filter(({ flags }) => flags.includes("<"));
  return [...new Set(all.flatMap(({ flags }) => flags.match(/--[a-z-]+|^-\w(?=,)/g) ?? []))];
}

/** Whether any argument of this command is a file. */
function takesFile(path: string): boolean {
  return VERBS.some((verb) => verb.path === path && (verb.args ?? []).some(({ name }) => /^.file/.test(name)));
}

function bashScript(): string {
  const words = paths().map(
    (path) =>
      `    "${path}") words="${[...wordsAfter(path).map(({ word }) => word), ...flagsOf(path).map(longFlag), "--help"].join(" ")}" ;;`,
  );
  const values = paths().flatMap((path) =>
    valuesOf(path).map(({ names, choices }) => {
      const patterns = names.map((name) => `"${`${path} ${name}`.trim()}"`).join("|");
      return `    ${patterns}) COMPREPLY=($(compgen ${choices === "files" ? "-f" : `-W "${choices.join(" ")}"`} -- "$current")); return ;;`;
    }),
  );
  return `# bash completion for waymark
_waymark() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" path="" word words next i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    case "$word" in
      ${valueFlags().join("|")}) ((i++)); continue ;;
      -*) continue ;;
    esac
    next="\${path:+$path }$word"
    case "$next" in
      ${namedPaths()
        .map((path) => `"${path}"`)
        .join("|")}) path="$next" ;;
    esac
  done
  case "\${path:+$path }$previous" in
${values.join("\n")}
  esac
  case "$path" in
${words.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "$path" in
    ${paths()
      .filter(takesFile)
      .map((path) => `"${path}"`)
      .join("|")}) [[ "$current" == -* ]] || COMPREPLY+=($(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F _waymark waymark
`;
}

function zshScript(): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const item = ({ word, doc }: CompletionWord): string => quoted(`${word.replaceAll(":", "\\:")}:${doc}`);
  const cases = paths().map((path) => {
    const words = [...wordsAfter(path), ...flagsOf(path).map((flag) => ({ word: longFlag(flag), doc: flag.doc }))];
    return `    ${quoted(path)}) words_here=(${words.map(item).join(" ")}) ;;`;
  });
  const values = paths().flatMap((path) =>
    valuesOf(path).map(({ names, choices }) => {
      const patterns = names.map((name) => quoted(`${path} ${name}`.trim())).join("|");
      return `    ${patterns}) ${choices === "files" ? "_files" : `compadd -- ${choices.join(" ")}`}; return ;;`;
    }),
  );
  return `#compdef waymark
_waymark() {
  local path_here="" word next i
  local -a words_here
  for ((i = 2; i < CURRENT; i++)); do
    word="\${words[i]}"
    case "$word" in
      ${valueFlags().join("|")}) ((i++)); continue ;;
      -*) continue ;;
    esac
    next="\${path_here:+$path_here }$word"
    case "$next" in
      ${namedPaths().map(quoted).join("|")}) path_here="$next" ;;
    esac
  done
  local previous="\${words[CURRENT-1]}"
  case "\${path_here:+$path_here }$previous" in
${values.join("\n")}
  esac
  case "$path_here" in
${cases.join("\n")}
  esac
  _describe waymark words_here
  case "$path_here" in
    ${paths().filter(takesFile).map(quoted).join("|")}) _files ;;
  esac
}
if [[ "$funcstack[1]" == _waymark ]]; then _waymark "$@"; else compdef _waymark waymark; fi
`;
}

function fishScript(): string {
  const quoted = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = paths().flatMap((path) => {
    const condition = quoted(`__waymark_at ${path}`.trim());
    const words = wordsAfter(path).map(({ word, doc }) => `complete -c waymark -f -n ${condition} -a ${quoted(word)} -d ${quoted(doc)}`);
    const own = VERBS.find((verb) => verb.path === path)?.flags ?? [];
    const files = takesFile(path) ? [`complete -c waymark -n ${condition} -F`] : [];
    return [...words, ...files, ...own.map((flag) => fishFlag(flag, condition))];
  });
  return `# fish completion for waymark
function __waymark_at
    set -l path
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        contains -- $word ${valueFlags().join(" ")}; and set skip 1; and continue
        string match -q -- '-*' $word; and continue
        set -l next (string trim -- "$path $word")
        contains -- $next ${namedPaths().map(quoted).join(" ")}; and set path $next
    end
    test "$path" = "$argv"
end
${lines.join("\n")}
${GLOBAL_FLAGS.map((flag) => fishFlag(flag, undefined)).join("\n")}
`;

  function fishFlag(flag: FlagSpec, condition: string | undefined): string {
    const value = !flag.flags.includes("<")
      ? ""
      : flag.choices
        ? ` -x -a ${quoted(flag.choices.join(" "))}`
        : flag.flags.includes("<file>")
          ? " -r -F"
          : " -x";
    const short = /^-([a-z]),/.exec(flag.flags)?.[1];
    return `complete -c waymark${condition === undefined ? "" : ` -n ${condition}`} -l ${longFlag(flag).slice(2)}${short === undefined ? "" : ` -s ${short}`}${value} -d ${quoted(flag.doc)}`;
  }
}
