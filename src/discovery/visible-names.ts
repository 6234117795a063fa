/**
 * What a class of viewers sees of namespaces and of claims of aliases. Who looks there passes by nothing hidden, so that the time does not tell how much is hidden
 * (semantics.md, DNS). Made only for classes that would have to pass by more than a few.
 */

import { isEndBefore, SortedBlocks } from "../catalog/query/sorted-blocks.ts";

/** A class of viewers, who all see the same. */
export interface ViewerClass {
  readonly key: string;
  /** Changes with what they see. */
  readonly version: () => number;
  readonly sees: (namespace: string) => boolean;
  /** Whether an alias of this name is seen, whoever has it. */
  readonly seesName: (name: string) => boolean;
}

/** What there is, in the order of the ends. */
interface NameLists<R extends object> {
  readonly namespaces: SortedBlocks<string>;
  readonly runs: SortedBlocks<R>;
}

/** How claims are read and ordered. A claim may be of a name in full. */
interface ClaimForm<R extends object> {
  readonly isBefore: (a: R, b: R) => boolean;
  readonly namespaceOf: (run: R) => string;
  readonly namesOf: (run: R) => readonly string[];
}

/** Classes for which lists are made. For others everything is looked at. */
const MAX_CLASSES = 32;

interface CachedNames<R extends object> extends NameLists<R> {
  readonly viewerClass: ViewerClass;
  readonly version: number;
}

export class VisibleNames<R extends object> {
  readonly #form: ClaimForm<R>;
  readonly #classes = new Map<string, CachedNames<R>>();

  constructor(form: ClaimForm<R>) {
    this.#form = form;
  }

  /** What a class sees, where it was made and still holds. */
  find(viewerClass: ViewerClass | undefined): NameLists<R> | undefined {
    const seen = viewerClass && this.#classes.get(viewerClass.key);
    return seen !== undefined && isFresh(seen) ? seen : undefined;
  }

  /** Undefined where there are lists of too many classes. Cost: a verdict for each item. */
  make(viewerClass: ViewerClass, { namespaces, runs }: NameLists<R>): NameLists<R> | undefined {
    for (const [key, seen] of this.#classes) if (!isFresh(seen)) this.#classes.delete(key);
    if (this.#classes.size === MAX_CLASSES) return undefined;
    const made = {
      viewerClass,
      version: viewerClass.version(),
      namespaces: new SortedBlocks(isEndBefore, namespaces.list().filter(viewerClass.sees)),
      runs: new SortedBlocks(
        this.#form.isBefore,
        runs.list().filter((run) => this.#sees(viewerClass, run)),
      ),
    };
    this.#classes.set(viewerClass.key, made);
    return made;
  }

  /** A namespace came or went. */
  setNamespace(namespace: string, isThere: boolean): void {
    for (const { viewerClass, namespaces } of this.#fresh())
      if (viewerClass.sees(namespace)) set(namespaces, namespace, isThere, isEndBefore);
  }

  /** A claim came or went. */
  setRun(run: R, isThere: boolean): void {
    for (const { viewerClass, runs } of this.#fresh()) if (this.#sees(viewerClass, run)) set(runs, run, isThere, this.#form.isBefore);
  }

  *#fresh(): Generator<CachedNames<R>> {
    // HOT: once a change. Mostly there are none.
    for (const [key, seen] of this.#classes) {
      if (isFresh(seen)) yield seen;
      else this.#classes.delete(key);
    }
  }

  #sees({ sees, seesName }: ViewerClass, run: R): boolean {
    return sees(this.#form.namespaceOf(run)) && this.#form.namesOf(run).some(seesName);
  }
}

function isFresh({ viewerClass, version }: { readonly viewerClass: ViewerClass; readonly version: number }): boolean {
  return viewerClass.version() === version;
}

function set<T extends object | string>(list: SortedBlocks<T>, item: T, isThere: boolean, isBefore: (a: T, b: T) => boolean): void {
  const [found] = list.from((each) => !isBefore(each, item));
  if (isThere === (found === item)) return;
  if (isThere) list.add(item);
  else list.remove(item);
}
