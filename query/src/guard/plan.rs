//! From SQL text to a plan that only reads.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::format::ExplainFormat;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::WindowFunctionDefinition;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as SqlStatement, TableFactor, Visit, Visitor};

use crate::error::QueryError;

/// Parses, refuses everything but one query, plans and binds the parameters.
pub(crate) async fn plan(
    state: &SessionState,
    sql: &str,
    parameters: &[ScalarValue],
    all_tenants: bool,
) -> Result<LogicalPlan, QueryError> {
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect)?;
    match offence(&statement) {
        None => {}
        Some(Offence::Changes) => return Err(QueryError::ReadOnly(first_word(sql))),
        // DataFusion would ignore it.
        Some(Offence::Samples) => return Err(QueryError::Sql("TABLESAMPLE is not supported".into())),
    }
    let plan = state.statement_to_plan(statement).await?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(&plan).map_err(|error| QueryError::ReadOnly(error.strip_backtrace()))?;
    if !all_tenants && measures(&plan)? {
        // Its counters are taken below the tenant filter.
        let detail = "EXPLAIN ANALYZE and EXPLAIN FORMAT TREE need an admin key: they count the rows of all tenants";
        return Err(QueryError::Sql(detail.into()));
    }
    if let Some(function) = extreme_of_nested(&plan)? {
        return Err(QueryError::Sql(format!("{function} takes neither lists nor structs nor maps")));
    }
    if parameters.is_empty() && !sql.contains('$') {
        return Ok(plan);
    }
    Ok(plan.with_param_values(parameters.to_vec())?)
}

/// What is wrong with a statement before it is planned.
enum Offence {
    Changes,
    Samples,
}

fn offence(statement: &Statement) -> Option<Offence> {
    match statement {
        Statement::Statement(statement) => sql_offence(statement),
        Statement::Explain(explain) => offence(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Some(Offence::Changes),
    }
}

fn sql_offence(statement: &SqlStatement) -> Option<Offence> {
    match statement {
        SqlStatement::Query(query) => Visit::visit(query, &mut Inspector).break_value(),
        SqlStatement::Explain { statement, .. } => sql_offence(statement),
        SqlStatement::ExplainTable { .. }
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ShowVariable { .. }
        | SqlStatement::ShowVariables { .. }
        | SqlStatement::ShowCreate { .. }
        | SqlStatement::ShowSchemas { .. }
        | SqlStatement::ShowDatabases { .. }
        | SqlStatement::ShowCatalogs { .. }
        | SqlStatement::ShowViews { .. } => None,
        _ => Some(Offence::Changes),
    }
}

/// Sees every query within a query, those of `WITH` included.
struct Inspector;

impl Visitor for Inspector {
    type Break = Offence;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Offence> {
        if body_only_reads(&query.body) { ControlFlow::Continue(()) } else { ControlFlow::Break(Offence::Changes) }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Offence> {
        match table {
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                ControlFlow::Break(Offence::Samples)
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// `WITH … INSERT` parses as a query.
fn body_only_reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => true,
        SetExpr::Query(query) => body_only_reads(&query.body),
        SetExpr::SetOperation { left, right, .. } => body_only_reads(left) && body_only_reads(right),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => false,
    }
}

fn measures(plan: &LogicalPlan) -> Result<bool, QueryError> {
    let mut found = false;
    plan.apply(|node| {
        found |= match node {
            LogicalPlan::Analyze(_) => true,
            // Shows the physical plan whatever the configuration says.
            LogicalPlan::Explain(explain) => explain.explain_format == ExplainFormat::Tree,
            _ => false,
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// `min` or `max` of what cannot be ordered, which would only fail while it runs, as a fault of ours.
fn extreme_of_nested(plan: &LogicalPlan) -> Result<Option<String>, QueryError> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        let (expressions, input) = match node {
            LogicalPlan::Aggregate(aggregate) => (&aggregate.aggr_expr, &aggregate.input),
            LogicalPlan::Window(window) => (&window.window_expr, &window.input),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        for expression in expressions {
            expression.apply(|part| {
                if let Some((function, argument)) = extreme(part)
                    && argument.get_type(input.schema()).is_ok_and(|kind: DataType| kind.is_nested())
                {
                    found = Some(function.to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn extreme(expression: &Expr) -> Option<(&str, &Expr)> {
    let (name, arguments) = match expression {
        Expr::AggregateFunction(function) => (function.func.name(), &function.params.args),
        Expr::WindowFunction(function) => match &function.fun {
            WindowFunctionDefinition::AggregateUDF(aggregate) => (aggregate.name(), &function.params.args),
            WindowFunctionDefinition::WindowUDF(_) => return None,
        },
        _ => return None,
    };
    if matches!(name, "min" | "max") { Some((name, arguments.first()?)) } else { None }
}

fn first_word(sql: &str) -> String {
    let word: String = sql.trim_start().chars().take_while(|c| c.is_ascii_alphabetic()).take(20).collect();
    format!("{} is none", if word.is_empty() { "this".to_owned() } else { word.to_ascii_uppercase() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::execution::session_state::SessionStateBuilder;

    use super::*;

    async fn fault(sql: &str) -> &'static str {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_file_formats(Vec::new())
            .with_table_factories(HashMap::new())
            .build();
        match plan(&state, sql, &[], false).await {
            Ok(_) => "none",
            Err(QueryError::ReadOnly(_)) => "read-only",
            Err(QueryError::Sql(_)) => "sql",
            Err(_) => "other",
        }
    }

    #[tokio::test]
    async fn lets_queries_pass_and_nothing_else() {
        for good in
            ["SELECT 1", "EXPLAIN SELECT 1", "WITH x AS (SELECT 1 AS a) SELECT a FROM x", "VALUES (1)", "SELECT 1;"]
        {
            assert_eq!(fault(good).await, "none", "{good}");
        }
        let changing = [
            "INSERT INTO calls VALUES (1)",
            "DELETE FROM calls",
            "UPDATE calls SET a = 1",
            "CREATE TABLE x AS SELECT 1",
            "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc/passwd'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "DROP TABLE calls",
            "SET datafusion.execution.batch_size = 1",
            "ALTER TABLE calls ADD COLUMN x INT",
            "BEGIN",
            "EXPLAIN INSERT INTO calls VALUES (1)",
            "WITH x AS (INSERT INTO calls VALUES (1)) SELECT 1",
        ];
        for changing in changing {
            assert_eq!(fault(changing).await, "read-only", "{changing}");
        }
    }

    #[tokio::test]
    async fn names_wrong_sql() {
        for wrong in [
            "",
            "SELEC 1",
            "SELECT 1; SELECT 2",
            "SELECT * FROM '/etc/passwd'",
            "SELECT $1",
            "EXPLAIN ANALYZE SELECT 1",
            "EXPLAIN FORMAT TREE SELECT 1",
            "SELECT a FROM (SELECT 1 AS a) AS t TABLESAMPLE (10 PERCENT)",
            "SELECT max(a) FROM (SELECT [1, 2] AS a)",
            "SELECT min(a) OVER () FROM (SELECT [1, 2] AS a)",
            "SELECT 1 WHERE 1 IN (SELECT cardinality(max(a)) FROM (SELECT [1, 2] AS a))",
        ] {
            assert_eq!(fault(wrong).await, "sql", "{wrong}");
        }
    }
}
