/** The VERBS table with the flags of `serve` that stand for settings: what they are takes longer to load than most commands take. */
import { SETTING_ROWS } from "../../config/settings.ts";
import type { FlagSpec, VerbSpec } from "./verb.ts";
import { VERBS } from "./verbs.ts";

const SETTING_FLAGS = SETTING_ROWS.flatMap(({ setting, path }): FlagSpec[] =>
  setting.flag === undefined
    ? []
    : [
        {
          flags: setting.flag,
          doc: `${setting.doc} (setting ${path})`,
          // Of a list the first half would be lost without a word; and with a variable that is not set a node that is to join would start alone.
          ...(!setting.type.startsWith("list") && { mayBeEmpty: true, isOverridable: true }),
          ...(setting.choices && { choices: setting.choices }),
        },
      ],
);

export const ALL_VERBS: readonly VerbSpec[] = VERBS.map((verb) => {
  if (verb.path !== "serve") return verb;
  const [first = [], rest = []] = [verb.flags?.slice(0, 1), verb.flags?.slice(1)];
  return { ...verb, flags: [...first, ...SETTING_FLAGS, ...rest] };
});
