//! What is public, listed in `public-api.txt`: whoever changes what others build on sees it in the diff.
//!
//! The list is read out of the sources and not out of the compiler, so it takes a moment and any toolchain. It has every
//! item that can be named from outside with its signature, fields, variants, derives and impls, by the path that it is
//! defined at; a line that goes or changes is a breaking change, a new one mostly is not
//! (docs/decisions/public-interface.md says more). To accept a change: `LB_BLESS=1 cargo test -p lb-core --test public_api`.
#![allow(clippy::disallowed_methods, reason = "it reads the sources, and the word to accept them")]

use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, TraitItem, UseTree, Visibility};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A module's items, those of its files' modules apart.
struct Module {
    items: Vec<Item>,
    /// Whether its parent says `pub mod`.
    is_public: bool,
}

/// All modules by path (`""` is the crate).
#[derive(Default)]
struct Crate(BTreeMap<String, Module>);

impl Crate {
    /// Reads a file and the modules that it declares. `folder` is where their files are.
    fn read(&mut self, path: &str, file: &Path, folder: &Path, is_public: bool) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.enter(path, parsed.items, folder, is_public);
    }

    fn enter(&mut self, path: &str, items: Vec<Item>, folder: &Path, is_public: bool) {
        let mut own = Vec::new();
        for item in items.into_iter().filter(|item| !is_left_out(attributes(item))) {
            let Item::Mod(module) = item else {
                own.push(item);
                continue;
            };
            let name = module.ident.to_string();
            let (path, is_public) = (join(path, &name), matches!(module.vis, Visibility::Public(_)));
            match module.content {
                Some((_, items)) => self.enter(&path, items, &folder.join(&name), is_public),
                None => {
                    let (file, nested) =
                        (folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs"));
                    let file = if file.exists() { file } else { nested };
                    self.read(&path, &file, &folder.join(&name), is_public);
                }
            }
        }
        self.0.insert(path.to_owned(), Module { items: own, is_public });
    }

    /// Paths of all items that can be named from outside, by definition, and the re-exports.
    fn public(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut names, mut uses) = (BTreeSet::new(), BTreeSet::new());
        for (path, module) in &self.0 {
            let reachable = ancestors(path).all(|path| self.0[path].is_public || path.is_empty());
            for item in module.items.iter().filter(|_| reachable) {
                match item {
                    Item::Use(it) if is_pub(&it.vis) => {
                        for (from, name) in targets(&it.tree, String::new()) {
                            let target =
                                from.strip_prefix("crate::").map(str::to_owned).unwrap_or(join(path, &from));
                            uses.insert(format!("pub use {target} as {}", join(path, &name)));
                            names.insert(target);
                        }
                    }
                    _ => names.extend(name_if_public(item).map(|name| join(path, &name))),
                }
            }
        }
        (names, uses)
    }

    /// Where a type is defined that something is implemented for, if it is public. In its own module it is known for
    /// certain; elsewhere by its name, for no two public types are called the same. A type that is exported further up
    /// has several paths, and is defined at the longest.
    fn public_name<'a>(&self, it: &ItemImpl, path: &str, names: &'a BTreeSet<String>) -> Option<&'a String> {
        let whole = words(&it.self_ty);
        let name = whole.split(['<', ' ']).next().unwrap_or_default().trim_start_matches('&');
        let is_its_own = |item: &Item| match item {
            Item::Enum(it) => it.ident == name,
            Item::Struct(it) => it.ident == name,
            Item::Type(it) => it.ident == name,
            _ => false,
        };
        if self.0[path].items.iter().any(is_its_own) {
            return names.get(&join(path, name));
        }
        let called_so = names.iter().filter(|known| known.rsplit("::").next() == Some(name));
        called_so.max_by_key(|known| known.len())
    }

    fn list(&self) -> String {
        let (names, uses) = self.public();
        let mut lines: BTreeSet<String> = uses;
        for (path, module) in &self.0 {
            for item in &module.items {
                if let Item::Macro(it) = item
                    && self.0[path].is_public
                    && it.ident.is_none()
                {
                    lines.extend(
                        assigned(it).into_iter().map(|name| format!("pub const {}", join(path, &name))),
                    );
                }
                if let Item::Impl(it) = item {
                    implemented(it, self.public_name(it, path, &names), &names, &mut lines);
                } else if let Some(name) = name_if_public(item)
                    && names.contains(&join(path, &name))
                {
                    describe(item, &join(path, &name), &mut lines);
                }
            }
        }
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") }
}

fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.match_indices("::").map(|(at, _)| &path[..at]);
    inner.chain(std::iter::once(path))
}

fn is_pub(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// Whether an item is for tests or for the model checker only.
fn is_left_out(attributes: &[Attribute]) -> bool {
    let cfgs = attributes.iter().filter(|it| it.path().is_ident("cfg"));
    cfgs.map(|it| words(&it.meta))
        .any(|words| ["cfg(test)", "cfg(doctest)", "cfg(lb_model)"].contains(&&*words))
}

fn name_if_public(item: &Item) -> Option<String> {
    let (visibility, name) = match item {
        Item::Const(it) => (&it.vis, &it.ident),
        Item::Enum(it) => (&it.vis, &it.ident),
        Item::Fn(it) => (&it.vis, &it.sig.ident),
        Item::Struct(it) => (&it.vis, &it.ident),
        Item::Trait(it) => (&it.vis, &it.ident),
        Item::Type(it) => (&it.vis, &it.ident),
        _ => return None,
    };
    is_pub(visibility).then(|| name.to_string())
}

/// What a `use` names: the path and the name that it has afterwards.
fn targets(tree: &UseTree, before: String) -> Vec<(String, String)> {
    match tree {
        UseTree::Path(it) => targets(&it.tree, join(&before, &it.ident.to_string())),
        UseTree::Name(it) => vec![(join(&before, &it.ident.to_string()), it.ident.to_string())],
        UseTree::Rename(it) => vec![(join(&before, &it.ident.to_string()), it.rename.to_string())],
        UseTree::Group(it) => it.items.iter().flat_map(|tree| targets(tree, before.clone())).collect(),
        UseTree::Glob(_) => panic!("`pub use {before}::*` hides what is public: name it"),
    }
}

/// Names to which a macro's input gives a value, as `codes!` does.
fn assigned(it: &syn::ItemMacro) -> Vec<String> {
    let tokens: Vec<String> = it.mac.tokens.clone().into_iter().map(|token| token.to_string()).collect();
    let pairs = tokens.windows(2).filter(|pair| pair[1] == "=");
    pairs
        .map(|pair| pair[0].clone())
        .filter(|name| name.chars().all(|it| it.is_ascii_uppercase() || it == '_'))
        .collect()
}

fn describe(item: &Item, path: &str, lines: &mut BTreeSet<String>) {
    let derives = derived(attributes(item));
    match item {
        Item::Const(it) => {
            lines.insert(format!("pub const {path}: {}", words(&it.ty)));
        }
        Item::Fn(it) => {
            lines.insert(format!("pub fn {path}{}", signature(&it.sig)));
        }
        Item::Type(it) => {
            lines.insert(format!("pub type {path} = {}", words(&it.ty)));
        }
        Item::Struct(it) => {
            lines.insert(format!("pub struct {path}{}{derives}", words(&it.generics)));
            fields(&it.fields, path, lines);
        }
        Item::Enum(it) => {
            lines.insert(format!("pub enum {path}{}{derives}", words(&it.generics)));
            for variant in &it.variants {
                lines.insert(format!("pub enum {path}::{}", words(&without_docs(variant))));
            }
        }
        Item::Trait(it) => {
            lines.insert(format!("pub trait {path}{}", words(&it.generics)));
            for part in &it.items {
                if let TraitItem::Fn(it) = part {
                    let default = if it.default.is_some() { " (with a default)" } else { "" };
                    lines.insert(format!(
                        "pub trait {path}::{}{}{default}",
                        it.sig.ident,
                        signature(&it.sig)
                    ));
                }
            }
        }
        _ => {}
    }
}

fn without_docs(variant: &syn::Variant) -> syn::Variant {
    let mut variant = variant.clone();
    variant.attrs.clear();
    match &mut variant.fields {
        Fields::Named(fields) => fields.named.iter_mut().for_each(|field| field.attrs.clear()),
        Fields::Unnamed(fields) => fields.unnamed.iter_mut().for_each(|field| field.attrs.clear()),
        Fields::Unit => {}
    }
    variant
}

/// Public fields, and whether there are others: then nobody outside can make or take apart the whole.
fn fields(fields: &Fields, path: &str, lines: &mut BTreeSet<String>) {
    for (place, field) in fields.iter().enumerate() {
        let name = field.ident.as_ref().map_or(place.to_string(), ToString::to_string);
        match is_pub(&field.vis) {
            true => lines.insert(format!("pub struct {path}.{name}: {}", words(&field.ty))),
            false => lines.insert(format!("pub struct {path}.(private)")),
        };
    }
}

/// What is derived, and whether more may come.
fn derived(attributes: &[Attribute]) -> String {
    let mut derives = BTreeSet::new();
    let mut open = "";
    for attribute in attributes {
        if attribute.path().is_ident("derive") {
            let names = words(&attribute.meta);
            let names = names.trim_start_matches("derive(").trim_end_matches(')').split(',').map(str::trim);
            derives.extend(names.map(str::to_owned));
        }
        if attribute.path().is_ident("non_exhaustive") {
            open = " non_exhaustive";
        }
    }
    let derives: Vec<String> = derives.into_iter().collect();
    if derives.is_empty() { open.to_owned() } else { format!("{open} [{}]", derives.join(", ")) }
}

/// Methods of a public type, and the traits that it has. `known` is where it is defined; `None` for a private one.
fn implemented(
    it: &ItemImpl,
    known: Option<&String>,
    names: &BTreeSet<String>,
    lines: &mut BTreeSet<String>,
) {
    let whole = words(&it.self_ty);
    let generics = words(&it.generics);
    if let Some((_, of, _)) = &it.trait_ {
        let of = words(of);
        let is_ours = names.iter().any(|known| of.split('<').next() == known.rsplit("::").next());
        let foreign = [
            "Default", "Deref", "Display", "Drop", "Error", "From", "FromStr", "Clone", "Copy", "AsRef",
            "Debug",
        ];
        let is_foreign =
            foreign.iter().any(|it| of.split('<').next().and_then(|of| of.rsplit("::").next()) == Some(it));
        if is_ours || is_foreign && known.is_some() {
            lines.insert(format!("impl{generics} {of} for {whole}"));
        }
        return;
    }
    let Some(known) = known else { return };
    for part in &it.items {
        match part {
            ImplItem::Fn(it) if is_pub(&it.vis) => {
                lines.insert(format!("pub fn {known}::{}{}", it.sig.ident, signature(&it.sig)));
            }
            ImplItem::Const(it) if is_pub(&it.vis) => {
                lines.insert(format!("pub const {known}::{}: {}", it.ident, words(&it.ty)));
            }
            _ => {}
        }
    }
}

fn signature(signature: &syn::Signature) -> String {
    let modes = [("const ", signature.constness.is_some()), ("unsafe ", signature.unsafety.is_some())];
    let modes: String = modes.iter().filter(|(_, has)| *has).map(|(word, _)| *word).collect();
    let mut bare = signature.clone();
    (bare.constness, bare.unsafety) = (None, None);
    let text = words(&bare);
    let text = text.strip_prefix(&format!("fn {}", signature.ident)).unwrap_or(&text).to_owned();
    if modes.is_empty() { text } else { format!("{text} [{}]", modes.trim_end()) }
}

/// Tokens with the spaces that people write.
fn words(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (long, short) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        (" < ", "<"),
        (" >", ">"),
        ("< ", "<"),
        (" <", "<"),
        (" ,", ","),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        ("& ", "&"),
        (" :", ":"),
        ("[ ", "["),
        (" ]", "]"),
        (" ;", ";"),
        (",)", ")"),
        ("? Sized", "?Sized"),
        ("=(", "= ("),
        (", }", " }"),
        ("' ", "'"),
        ("- >", "->"),
    ] {
        text = text.replace(long, short);
    }
    text.replace("->", " -> ").replace("  ", " ").replace("  ", " ")
}

#[test]
fn what_is_public_is_listed() {
    let mut all = Crate::default();
    let source = PathBuf::from(ROOT).join("src");
    all.read("", &source.join("lib.rs"), &source, true);
    let (list, file) = (all.list(), Path::new(ROOT).join("public-api.txt"));
    if std::env::var("LB_BLESS").is_ok_and(|word| word == "1") {
        fs::write(&file, &list).expect("the list can be written");
    }
    let known = fs::read_to_string(&file).expect("public-api.txt is there");
    let (known, now): (BTreeSet<&str>, BTreeSet<&str>) = (known.lines().collect(), list.lines().collect());
    let gone: Vec<&&str> = known.difference(&now).collect();
    let new: Vec<&&str> = now.difference(&known).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "what is public has changed\n\ngone or changed, which breaks those who use it:\n{gone:#?}\n\nnew:\n{new:#?}\n\n\
         If it is meant: LB_BLESS=1 cargo test -p lb-core --test public_api"
    );
}
