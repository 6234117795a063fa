/**
 * The namespaces and alias claims that a class of viewers can see. A search in these lists does not have to skip hidden items, so its duration does
 * not reveal how many items are hidden (semantics.md, DNS). Lists are created only for classes that would have to skip more than a few items.
 */

import { isEndBefore, SortedBlocks } from "../catalog/query/sorted-blocks.ts";

/** A class of viewers that all see the same entries. */
export interface ViewerClass {
  readonly key: string;
  /** Changes whenever the visible entries change. */
  readonly version: () => number;
  readonly sees: (namespace: string) => boolean;
  /** Whether an alias with this name is visible, regardless of which entry has it. */
  readonly seesName: (name: string) => boolean;
}

/** All items, sorted by suffix. */
interface NameLists<R extends object> {
  readonly namespaces: SortedBlocks<string>;
  readonly runs: SortedBlocks<R>;
}

/** Defines how claims are read and ordered. A claim's name may include the zone. */
interface ClaimForm<R extends object> {
  readonly isBefore: (a: R, b: R) => boolean;
  readonly namespaceOf: (run: R) => string;
  readonly namesOf: (run: R) => readonly string[];
}

/** Maximum number of classes for which lists are created. For other classes, searches cover all items. */
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

  /** Returns the items that a class sees if there is a valid list. */
  find(viewerClass: ViewerClass | undefined): NameLists<R> | undefined {
    const seen = viewerClass && this.#classes.get(viewerClass.key);
    return seen !== undefined && isFresh(seen) ? seen : undefined;
  }

  /** Creates the lists for a class. Returns undefined if too many classes have lists. Cost: one verdict per item. */
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

  /** Records that a namespace was added or removed. */
  setNamespace(namespace: string, isThere: boolean): void {
    for (const { viewerClass, namespaces } of this.#fresh())
      if (viewerClass.sees(namespace)) set(namespaces, namespace, isThere, isEndBefore);
  }

  /** Records that a claim was added or removed. */
  setRun(run: R, isThere: boolean): void {
    for (const { viewerClass, runs } of this.#fresh()) if (this.#sees(viewerClass, run)) set(runs, run, isThere, this.#form.isBefore);
  }

  *#fresh(): Generator<CachedNames<R>> {
    // HOT: once per change. Usually, there are no lists.
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
